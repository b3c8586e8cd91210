"""What a trained encoding adds to the logits, as curves over distance, beside where they started.

Dimension letters: H heads, N distances.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor

from poslab.encodings import PositionalEncoding, Positions, QueryRows, StackEncodings
from poslab.evaluation.attention_pictures import head_style, hide_rest
from poslab.report.figures import Picture, new_figure

_BIASES = frozenset({"bias", "pair_bias"})

DRAWN = 400
"""Distances of a curve, about, which nobody can tell from all of them."""


def learned_bias(
    encodings: StackEncodings, length: int, start: StackEncodings | None = None, most: int | None = None
) -> pd.DataFrame:
    """What the encodings of a stack add to the logits of the last query of a text, against the distance of the key.

    For a bias of distance (T5, ALiBi, KERPLE, Sandwich, TISA) it is that of every query; FIRE and TUPE depend on where
    the query is as well. Of an encoding that builds on another's bias (DAPE), it is that bias.

    Args:
        encodings: of a model, `model.encodings`.
        length: tokens N of the text.
        start: the same encodings before training, for the column `start`; None leaves it out.
        most: how many distances, about, the nearest ones all and then ever fewer; None is all.

    Returns:
        Columns `layers` (which an encoding serves), `head`, `distance` (0 to N - 1), `bias` and perhaps `start`; no
        rows where no encoding has a bias.

    Raises:
        ValueError: for a text past the end of an encoding, or another number of layers at the start.
    """
    if length < 1:
        raise ValueError(f"length must be a positive integer, got {length}")
    distances = np.arange(length)
    if most is not None and most < length:
        distances = np.unique(np.geomspace(1, length, most).round().astype(int)) - 1
    frames = []
    for layers, encoding, before in served(encodings, start):
        bias_HN = _bias(encoding, length)
        if bias_HN is None:
            continue
        frame = _by_head(bias_HN, distances)
        start_HN = None if before is None else _bias(before, length)
        if start_HN is not None:
            frame["start"] = start_HN[:, distances].flatten().numpy()
        frames.append(frame.assign(layers=layers))
    if not frames:
        return pd.DataFrame(columns=["layers", "head", "distance", "bias"])
    return _first_column(pd.concat(frames, ignore_index=True), "layers")


def bias_picture(bias: pd.DataFrame, training_length: int | None = None) -> Picture:
    """The bias of each head against distance, pale where it started; what lies past the training length is shaded.

    Args:
        bias: what `learned_bias` gives, with at least one row.
        training_length: tokens of a training window; None shades nothing.
    """
    names = list(bias["layers"].unique())
    columns = min(2 if len(names) <= 4 else 3, len(names))
    num_rows = -(-len(names) // columns)
    figure = new_figure(8.0, 1.0 + (3.2 if len(names) == 1 else 2.5) * num_rows)
    panels = figure.subplots(num_rows, columns, sharex=True, sharey=True, squeeze=False)
    for panel, layers in zip(panels.flat, names, strict=False):
        for head, own in bias[bias["layers"] == layers].groupby("head"):
            style = head_style(int(str(head)))
            panel.plot(own["distance"], own["bias"], linewidth=1.3, label=str(head), **style)
            if "start" in own:
                panel.plot(own["distance"], own["start"], linewidth=2.5, alpha=0.25, zorder=1, **style)
        panel.set_xscale("symlog", linthresh=1, linscale=0.5)
        panel.set_title(str(layers), fontsize="medium")
        _shade_beyond(panel, training_length, bias["distance"].max())
    hide_rest(panels, len(names))
    for panel in panels.flat[max(0, len(names) - columns) : len(names)]:  # the last of each column
        panel.tick_params(labelbottom=True)
        panel.set_xlabel("distance (tokens)")
    for panel in panels[:, 0]:
        panel.set_ylabel("bias (nats)")
    figure.legend(
        *panels.flat[0].get_legend_handles_labels(), title="head", loc="outside lower center", ncols=8, frameon=False
    )
    before = " The broad pale line is where it started." if "start" in bias else ""
    return Picture(
        name="learned_bias",
        title="Bias against distance",
        caption="Each line is one head: what is added to the logit of a key so far back. One nat less is attention "
        f"divided by 2.7; what lies in the shaded part was never met in training.{before}",
        source="",
        figure=figure,
    )


def served(
    encodings: StackEncodings, start: StackEncodings | None = None
) -> Iterator[tuple[str, PositionalEncoding, PositionalEncoding | None]]:
    """Each encoding of a stack once: which layers it serves, in words, the encoding, and its start.

    Raises:
        ValueError: for another number of layers at the start.
    """
    depth = len(encodings.windows)
    if start is not None and len(start.windows) != depth:
        raise ValueError(f"start must be of as many layers as the encodings, {depth}, got {len(start.windows)}")
    places: dict[int, list[int]] = {}
    for layer in range(depth):
        places.setdefault(id(encodings.layer(layer)), []).append(layer)
    for own in places.values():
        words = f"layer {own[0]}" if len(own) == 1 else f"layers {', '.join(map(str, own))}"
        before = None if start is None else start.layer(own[0])
        yield ("all layers" if len(own) == depth > 1 else words), encodings.layer(own[0]), before


def num_learned_biases(encodings: StackEncodings) -> int:
    """Return how many encodings of a stack add to the logits what they learn."""
    biases = [_biased_part(encoding) for encoding in encodings]
    return sum(bias is not None and next(bias.parameters(), None) is not None for bias in biases)


def _biased_part(encoding: PositionalEncoding) -> PositionalEncoding | None:
    """Return the outermost part that has a bias: of DAPE what it builds on, of TUPE itself, which holds T5."""
    parts = (x for x in encoding.modules() if isinstance(x, PositionalEncoding) and x.hooks & _BIASES)
    return next(parts, None)


@torch.no_grad()
def _bias(encoding: PositionalEncoding, length: int) -> Tensor | None:
    """What is added for the last of `length` tokens at distances 0, 1, ..., (H, N) on the processor."""
    outermost = _biased_part(encoding)
    if outermost is None:
        return None
    device = next((parameter.device for parameter in encoding.parameters()), torch.device("cpu"))
    tables = outermost.prepare(Positions.range(1, length - 1, device), Positions.range(length, device=device))
    added = [outermost.pair_bias(QueryRows(tables, slice(0, 1), length - 1, 1.0))]
    bias = outermost.bias(tables)
    added.append(None if bias is None else bias.matrix())
    total_BHRS = torch.stack(torch.broadcast_tensors(*(x for x in added if x is not None))).sum(0)
    return total_BHRS[0, :, 0].flip(-1).float().cpu()


def _by_head(bias_HN: Tensor, distances: np.ndarray) -> pd.DataFrame:
    index = pd.MultiIndex.from_product([range(len(bias_HN)), distances], names=["head", "distance"])
    return pd.DataFrame({"bias": bias_HN[:, distances].flatten().numpy()}, index=index).reset_index()


def _first_column(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return frame[[name, *(column for column in frame.columns if column != name)]]


def _shade_beyond(panel: Axes, training_length: int | None, furthest: float) -> None:
    panel.set_xlim(0, furthest)
    if training_length is not None and training_length < furthest:
        panel.axvspan(training_length, furthest, color="0.93", zorder=0)
