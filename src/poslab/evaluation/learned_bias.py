"""Biases that a trained encoding adds to the logits, by distance and by offset on axes, next to their initial values.

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
from poslab.evaluation.attention.offsets import at_no_offset, offset_maps, sums_by_offset
from poslab.evaluation.attention.statistics import distance_panels, head_legend, head_style
from poslab.report.figures import Plot

_BIASES = frozenset({"bias", "pair_bias"})

MAX_POINTS = 400
"""Distances of a curve, about: as good as all of them to the eye."""


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
    is not causal, biases of keys ahead, at negative distances, are those of the first query.

    Args:
        encodings: of a model, `model.encodings`.
        length: tokens N of the text.
        start: the same encodings before training, for the column `start`; None leaves it out.
        most: about how many distances to one side, dense near 0 and sparse far away; None is all.
        on_axes: True where tokens have several axes: the encodings that read these have a bias of offsets
            (`bias_by_offset`), and are left out.

    Returns:
        Columns `layers` (those that an encoding serves), `head`, `distance` (0 to N - 1; from -(N - 1) on if not
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

    Raises:
        ValueError: for another number of layers at the start.
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
    """Return the outermost part with a bias: what DAPE builds on; TUPE itself, although it holds a T5."""
    parts = (x for x in encoding.modules() if isinstance(x, PositionalEncoding) and x.hooks & _BIASES)
    return next(parts, None)


def bias_by_offset(
    encodings: StackEncodings, sizes: Sequence[int], axes: Sequence[str], start: StackEncodings | None = None
) -> pd.DataFrame:
    """Return the biases that a stack adds to the logits between the cells of one grid, by offset.

    Encodings that read the order in storage are left out: they are in `learned_bias`.

    Args:
        encodings: of a model, `model.encodings`.
        sizes: number of cells of the grid on each axis.
        axes: names of the axes.
        start: the same encodings before training, for the column `start`; None leaves it out.

    Returns:
        Columns `layers` (those that an encoding serves), `head`, one for each axis (the cell of the key less that of
        the query), `bias` in nats and perhaps `start`; no rows if no encoding has a bias of offsets.

    Raises:
        ValueError: for an encoding of other than these axes, or another number of layers at the start.
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
