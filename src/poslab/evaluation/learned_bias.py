"""Biases that a trained encoding adds by distance and offset, and its learned numbers, next to their initial values.

Dimension letters: B batch, H heads, R queries, S keys, N distances or pairs, A axes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from poslab.encodings import PositionalEncoding, Positions, QueryRows, StackEncodings
from poslab.encodings.shape import Described
from poslab.evaluation.attention.offsets import at_no_offset, offset_maps, sums_by_offset
from poslab.evaluation.attention.statistics import distance_panels, head_legend, head_style
from poslab.report.figures import WIDTH, Plot, Table, new_figure

_BIASES = frozenset({"bias", "pair_bias"})

MAX_POINTS = 400  # distances of a curve, about: as good as all of them to the eye


def learned_bias(
    encodings: StackEncodings,
    length: int,
    start: StackEncodings | None = None,
    most: int | None = None,
    on_axes: bool = False,
) -> pd.DataFrame:
    """Return the biases that a stack adds to the logits of the last query of a text, by distance of the key.

    A bias of distance (T5, ALiBi, KERPLE, Sandwich, TISA) is the same for every query; FIRE and TUPE depend on the
    position of the query as well. For an encoding that builds on another's bias (DAPE), it is that bias. If the stack
    is not causal, biases of keys ahead, at negative distances, are the first query's.

    Args:
        encodings: of a model, `model.encodings`.
        length: tokens N of the text.
        start: the same encodings before training, for the column `start`; None leaves it out.
        most: about how many distances to one side, dense near 0 and sparse far away; None is all.
        on_axes: True where tokens have several axes: the encodings that read these have a bias of offsets
            (`bias_by_offset`), and are left out.

    Returns:
        Columns `layers` (those that an encoding supports), `head`, `distance` (0 to N - 1; from -(N - 1) on if not
        causal), `bias` and perhaps `start`; no rows if no encoding has a bias.

    Raises:
        ValueError: for a text past the end of an encoding, or another number of layers at the start.
    """
    if length < 1:
        raise ValueError(f"length must be a positive integer, got {length}")
    distances = np.arange(length)
    if most is not None and most < length:
        distances = np.unique(np.geomspace(1, length, most).round().astype(int)) - 1
    if both_ways := not encodings.shape.causal:
        distances = np.concatenate([-distances[:0:-1], distances])

    @torch.no_grad()
    def bias_of(encoding: PositionalEncoding) -> pd.DataFrame | None:
        outermost = biased_part(encoding)
        if outermost is None or (on_axes and outermost.reads_axes):
            return None
        device = next((parameter.device for parameter in encoding.parameters()), torch.device("cpu"))

        def of_query(query: int) -> Tensor:
            tables = outermost.prepare(Positions.range(1, query, device), Positions.range(length, device=device))
            bias = outermost.bias(tables)
            of_pairs = outermost.pair_bias(QueryRows(tables, slice(0, 1), query, 1.0))
            added = [of_pairs, None if bias is None else bias.matrix()]
            total_BHRS = torch.stack(torch.broadcast_tensors(*(x for x in added if x is not None))).sum(0)
            return total_BHRS[0, :, 0].flip(-1).float().cpu()

        bias_HN = of_query(length - 1)
        if both_ways:  # the first token has the keys ahead
            bias_HN = torch.cat([of_query(0)[:, :-1], bias_HN], dim=-1)
        chosen_NH = bias_HN[:, distances + both_ways * (length - 1)].T.numpy()
        return pd.DataFrame(chosen_NH, index=pd.Index(distances, name="distance"))

    return _by_layers(encodings, start, ["distance"], bias_of)


def _by_layers(
    encodings: StackEncodings,
    start: StackEncodings | None,
    columns: Sequence[str],
    bias_of: Callable[[PositionalEncoding], pd.DataFrame | None],
) -> pd.DataFrame:
    """Return biases by encoding and head: `bias_of` gives a column for each head, and an index of these columns."""
    frames = [pd.DataFrame(columns=["layers", "head", *columns, "bias"])]
    for layers, encoding, before in served(encodings, start):
        if (bias := bias_of(encoding)) is None:
            continue
        started = None if before is None else bias_of(before)
        for head in range(bias.shape[1]):
            frame = bias[head].rename("bias").reset_index()
            frame.insert(0, "layers", layers)
            frame.insert(1, "head", head)
            if started is not None:
                frame["start"] = started[head].to_numpy()
            frames.append(frame)
    return pd.concat(frames[1:] or frames, ignore_index=True)


def varies(bias: pd.DataFrame) -> bool:
    """Return whether a bias of a head differs between distances or offsets; one that is the same is no position."""
    return bool(bias.groupby(["layers", "head"])["bias"].nunique().gt(1).any())


def bias_plot(bias: pd.DataFrame, training_length: int | None = None) -> Plot:
    """Draw `learned_bias`, of at least one row, over distance, with its initial value pale.

    Distances past the training length (in tokens, None if unknown) are shaded.
    """
    names = [str(layers) for layers in bias["layers"].unique()]
    nearest = bias["distance"].min()
    figure, panels = distance_panels(names, "bias (nats)", height=3.2 if len(names) == 1 else 2.5)
    furthest = bias["distance"].max()
    for panel, layers in zip(panels.flat, names, strict=False):
        for head, curve in bias[bias["layers"] == layers].groupby("head"):
            style = head_style(int(str(head)))
            panel.plot(curve["distance"], curve["bias"], linewidth=1.3, label=str(head), **style)
            if "start" in curve:
                panel.plot(curve["distance"], curve["start"], linewidth=2.5, alpha=0.25, zorder=1, **style)
        panel.set_xlim(nearest, furthest)
        if training_length is not None and training_length < furthest:
            panel.axvspan(training_length, furthest, color="0.93", zorder=0)
            if nearest < 0:
                panel.axvspan(nearest, -training_length, color="0.93", zorder=0)
    head_legend(figure, panels[0, 0])
    return Plot(
        name="learned_bias",
        title="Bias against distance",
        caption="Each line is one head: its bias on the logit of a key at this distance, and its initial value broad "
        "and pale. One nat less divides attention by 2.7. Keys ahead of the query are on the left. The shaded "
        "distances never occurred in training.",
        figure=figure,
    )


def served(
    encodings: StackEncodings, start: StackEncodings | None = None
) -> Iterator[tuple[str, PositionalEncoding, PositionalEncoding | None]]:
    """Yield each encoding of a stack once: its layers in words, the encoding, and the encoding before training.

    ValueError for another number of layers at the start.
    """
    depth = len(encodings.windows)
    if start is not None and len(start.windows) != depth:
        raise ValueError(f"start must be of as many layers as the encodings, {depth}, got {len(start.windows)}")
    layers_of: dict[int, list[int]] = {}
    for layer in range(depth):
        layers_of.setdefault(id(encodings.layer(layer)), []).append(layer)
    for layers in layers_of.values():
        words = f"layer {layers[0]}" if len(layers) == 1 else f"layers {', '.join(map(str, layers))}"
        before = None if start is None else start.layer(layers[0])
        yield ("all layers" if len(layers) == depth > 1 else words), encodings.layer(layers[0]), before


def biased_part(encoding: PositionalEncoding) -> PositionalEncoding | None:
    """Return the outermost part with a bias: what DAPE builds on; TUPE itself, although it contains a T5."""
    parts = (x for x in encoding.modules() if isinstance(x, PositionalEncoding) and x.hooks & _BIASES)
    return next(parts, None)


def bias_by_offset(
    encodings: StackEncodings, sizes: Sequence[int], axes: Sequence[str], start: StackEncodings | None = None
) -> pd.DataFrame:
    """Return the biases that a stack adds to the logits between the cells of one grid, by offset.

    Encodings that read the order in storage are left out: they are in `learned_bias`. ValueError for an encoding of
    other than these axes, or another number of layers at the start.

    Args:
        sizes: number of cells of the grid on each axis.
        start: the same encodings before training, for the column `start`; None leaves it out.

    Returns:
        Columns `layers` (which an encoding supports), `head`, one for each axis (the cell of the key less the
        query's), `bias` in nats and perhaps `start`; no rows if no encoding has a bias of offsets.
    """
    return _by_layers(encodings, start, axes, lambda encoding: _bias_of_offset(encoding, sizes, axes))


def bias_maps(bias: pd.DataFrame, axes: Sequence[str]) -> Iterator[Plot]:
    """Yield the maps of `bias_by_offset`, of at least one row and two axes, and of the bias before training."""
    columns = [("bias", "learned_bias_by_offset", "Bias by offset")]
    if "start" in bias and (bias["start"] != bias["bias"]).any():
        columns.append(("start", "initial_bias_by_offset", "Bias by offset before training"))
    for column, name, title in columns:
        yield Plot(
            name=name,
            title=title,
            caption="Each map is one head. Its middle is the query's own cell, and a colour the bias on the logit of a "
            f"key at that offset within the grid of training{at_no_offset(axes)}: one nat less divides attention by "
            "2.7. A bias that is the same everywhere changes nothing.",
            figure=offset_maps(bias, column, ("layers", "head"), axes, "bias (nats)", is_signed=True),
        )


@torch.no_grad()
def _bias_of_offset(encoding: PositionalEncoding, sizes: Sequence[int], axes: Sequence[str]) -> pd.DataFrame | None:
    """Return the bias of each head, a column each, by offset; None for an encoding without one that reads axes."""
    biased = biased_part(encoding)
    if biased is None or not biased.reads_axes:
        return None
    device = next((parameter.device for parameter in encoding.parameters()), torch.device("cpu"))
    keys = Positions.grid(*sizes, axes=axes, device=device)
    assert keys.places is not None
    # The corners of a grid have a key at every offset, and a bias of offsets is the same for all queries.
    strides = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    ends = [[0, (size - 1) * stride] for size, stride in zip(sizes, strides, strict=True)]
    corners = torch.tensor(sorted({sum(corner) for corner in itertools.product(*ends)}), device=device)
    at_corners = keys.places.take(corners)
    tables = biased.prepare(replace(keys, ids=keys.ids[corners], contiguous=False, places=at_corners), keys)
    if (bias := biased.bias(tables)) is None:
        return None
    bias_HRS: Tensor = bias.matrix()[0]
    offset_RSA = keys.places.cells[None] - at_corners.cells[:, None]
    sums = sums_by_offset(offset_RSA.flatten(0, 1), bias_HRS.movedim(0, -1).flatten(0, 1).float(), axes)
    return sums.drop(columns="pairs").div(sums["pairs"], axis=0)


MAX_ELEMENTS = 64  # largest number of elements of a parameter that a report lists


def learned_parameters(
    encodings: StackEncodings, start: StackEncodings | None = None, most: int = MAX_ELEMENTS
) -> pd.DataFrame:
    """Return the learned numbers of a stack's encodings, temperatures (their `learned()`) and sinks, one in each row.

    Parameters of more than `most` elements are left out. `start` has the same encodings before training. ValueError for
    another number of layers at the start.

    Returns:
        Columns `layers`, `parameter`, `index` (`head 0` if each head has one number, else its position, which is empty
        for a parameter of one number), `learned` and perhaps `start`.
    """
    columns = ["layers", "parameter", "index", "learned", *([] if start is None else ["start"])]
    pairs: list[tuple[str, Described, Described | None]] = list(served(encodings, start))
    for layer in range(len(encodings.windows)):
        if (temperature := encodings.temperature(layer)) is not None:
            pairs.append((f"layer {layer}", temperature, None if start is None else start.temperature(layer)))
    learned = [(layers, part.learned(), {} if before is None else before.learned()) for layers, part, before in pairs]
    for layer in map(int, encodings.sinks):
        at_start = None if start is None else start.sinks_of(layer)
        before = {} if at_start is None else {"sink": at_start}
        learned.append((f"layer {layer}", {"sink": encodings.sinks[str(layer)]}, before))
    records = []
    for layers, named, initial in learned:
        for name, values in named.items():
            if values.numel() > most:
                continue
            # Biases of a network inside of an encoding may have as many numbers as there are heads.
            by_head = values.shape == (encodings.shape.num_heads,) and not name.endswith(".bias")
            for index, value in np.ndenumerate(_numbers(values)):
                position = f"{'head ' * by_head}{', '.join(map(str, index))}" if values.numel() > 1 else ""
                record = {"layers": layers, "parameter": name, "index": position, "learned": value}
                if name in initial:
                    record["start"] = _numbers(initial[name])[index]
                records.append(record)
    return pd.DataFrame(records, columns=columns)


def parameters_table(parameters: pd.DataFrame) -> Table:
    return Table(
        name="learned_parameters",
        title="Learned parameters",
        caption="Each row is one number of the encoding after training, next to its initial value where that is known. "
        "Index is its head, if each head has one number, else its position in a parameter of several numbers.",
        frame=parameters,
    )


def table_norms(encodings: StackEncodings, start: StackEncodings | None = None) -> pd.DataFrame:
    """Return the norm of each learned vector of a distance or a count (the encodings' `vectors()`).

    Columns are `layers`, `table` (its name, and the head if each has its own), `index` (the distance or count), `norm`
    and perhaps `start`; there are no rows if no encoding has such vectors.
    """
    columns = ["layers", "table", "index", "norm", *([] if start is None else ["start"])]
    frames = [pd.DataFrame(columns=columns)]
    for layers, encoding, before in served(encodings, start):
        initial = {} if before is None else before.vectors()
        for name, (rows, first) in encoding.vectors().items():
            frame = pd.DataFrame({"index": range(first, first + len(rows)), "norm": _norms(rows)})
            if name in initial:
                frame["start"] = _norms(initial[name].rows)
            frames.append(frame.assign(layers=layers, table=name)[columns])
    return pd.concat(frames[1:] or frames, ignore_index=True)


def norms_plot(norms: pd.DataFrame) -> Plot:
    """Draw `table_norms`, of at least one row, as a map of layers and heads against indices for each kind of table."""
    maps = {}
    for kind, rows in norms.groupby(norms["table"].str.split(",").str[0], sort=False):
        names = rows["layers"] + rows["table"].str.removeprefix(str(kind))
        table = rows.assign(row=names).pivot(index="row", columns="index", values="norm")
        maps[str(kind)] = table.loc[list(names.unique())]  # in the order of layers, which pivot sorts
    heights = [0.9 + 0.2 * len(table) for table in maps.values()]
    figure = new_figure(WIDTH, sum(heights))
    panels = figure.subplots(len(maps), 1, squeeze=False, height_ratios=heights)
    for panel, (kind, table) in zip(panels.flat, maps.items(), strict=True):
        first, last = int(table.columns[0]), int(table.columns[-1])
        extent = (first - 0.5, last + 0.5, len(table) - 0.5, -0.5)
        image = panel.imshow(table, cmap="Blues", vmin=0, aspect="auto", interpolation="nearest", extent=extent)
        panel.set_yticks(range(len(table)), list(table.index), fontsize="small")
        panel.set_title(kind, fontsize="medium")
        figure.colorbar(image, ax=panel)
    panels.flat[-1].set_xlabel("index in the table")
    return Plot(
        name="table_norms",
        title="Lengths of the learned vectors",
        caption="Each row is a table of vectors, darker where a vector is longer. Indices as pale as the rest matter "
        "little, and those that never occurred in training have kept their initial length.",
        figure=figure,
    )


def _norms(rows_ND: Tensor) -> np.ndarray:
    return _numbers(torch.linalg.vector_norm(rows_ND.detach().float(), dim=-1))


def _numbers(x: Tensor) -> np.ndarray:
    return x.detach().float().cpu().numpy()
