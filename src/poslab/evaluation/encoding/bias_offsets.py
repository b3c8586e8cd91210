"""Biases that an encoding of several axes adds to the logits, as maps over the offset of the key on each axis.

Dimension letters: A axes, H heads, R queries, S keys, N pairs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from poslab.encodings import PositionalEncoding, Positions, StackEncodings
from poslab.evaluation.attention.offset_plots import at_no_offset, maps_of_heads, on_last_axes, signs_differ
from poslab.evaluation.attention.offsets import sums_by_offset
from poslab.evaluation.encoding.curves import biased_part, served
from poslab.report.figures import Plot


def bias_by_offset(
    encodings: StackEncodings, sizes: Sequence[int], axes: Sequence[str], start: StackEncodings | None = None
) -> pd.DataFrame:
    """Return the biases that a stack adds to the logits between the cells of one grid, by offset.

    Encodings that read the order in storage are left out: `learned_bias` has theirs.

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
    frames = [pd.DataFrame(columns=["layers", "head", *axes, "bias"])]
    for layers, encoding, before in served(encodings, start):
        if (bias := _bias(encoding, sizes, axes)) is None:
            continue
        started = None if before is None else _bias(before, sizes, axes)
        for head in range(bias.shape[1]):
            frame = bias[head].rename("bias").reset_index()
            frame.insert(0, "layers", layers)
            frame.insert(1, "head", head)
            if started is not None:
                frame["start"] = started[head].to_numpy()
            frames.append(frame)
    return pd.concat(frames[1:] or frames, ignore_index=True)


def bias_maps(bias: pd.DataFrame, axes: Sequence[str]) -> Iterator[Plot]:
    """Yield the maps of `bias_by_offset`, of at least one row and two axes, and of the bias before training."""
    words = [("bias", "learned_bias_by_offset", "Bias by offset")]
    if "start" in bias and (bias["start"] != bias["bias"]).any():
        words.append(("start", "initial_bias_by_offset", "Bias by offset before training"))
    for column, name, title in words:
        frame = on_last_axes(bias, axes)
        yield Plot(
            name=name,
            title=title,
            caption="Each map is one head. Its middle is the query's own cell, and a colour the bias on the logit of a "
            f"key at that offset within the grid of training{at_no_offset(axes)}: one nat less divides attention by "
            "2.7. A bias that is the same everywhere changes nothing.",
            figure=maps_of_heads(frame, column, ("layers", "head"), axes, "bias (nats)", signs_differ),
        )


@torch.no_grad()
def _bias(encoding: PositionalEncoding, sizes: Sequence[int], axes: Sequence[str]) -> pd.DataFrame | None:
    """Return the bias of each head, a column each, by offset; None for an encoding without one that reads places."""
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
    places = keys.places.take(corners)
    tables = biased.prepare(replace(keys, ids=keys.ids[corners], contiguous=False, places=places), keys)
    if (bias := biased.bias(tables)) is None:
        return None
    bias_HRS: Tensor = bias.matrix()[0]
    offset_RSA = keys.places.cells[None] - places.cells[:, None]
    sums = sums_by_offset(offset_RSA.flatten(0, 1), bias_HRS.movedim(0, -1).flatten(0, 1).float(), axes)
    return sums.drop(columns="pairs").div(sums["pairs"], axis=0)
