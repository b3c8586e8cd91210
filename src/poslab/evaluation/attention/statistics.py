"""Statistics of the attention of each head, with their plots.

Dimension letters: B batch, H heads, T tokens, R queries of a block, S keys of a block, L layers, N distances.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from poslab.attention.blockwise import BLOCK
from poslab.evaluation.attention.maps import RowsOfLayer, attends_to_itself, attention_rows, is_causal
from poslab.evaluation.attention.offsets import added, sums_by_offset
from poslab.models import ForwardPass, Model
from poslab.report.figures import WIDTH, Plot, Style, panel_grid, style, without_marker

BINS_PER_OCTAVE = 4  # bins over which distances are averaged, since single ones are noise
MIN_ATTENTION = 1e-6  # lower end of the axis of attention: smaller weights do not affect any output

STATISTICS = (
    *("entropy", "mean_distance", "cells_away", "without_position", "first_token", "last_token"),
    *("own_token", "previous_token", "next_token", "attended"),
)
"""Columns of `attention_statistics`, and of `with_cells`, in order."""

Inputs = Tensor | Sequence[ForwardPass]
"""Token ids (B, T) on the device of a model, or forward passes of one text each."""


def attention_statistics(model: Model, inputs: Inputs, rows: int = BLOCK, stack: str = "self") -> pd.DataFrame:
    """Return statistics of each head as means over all queries of these texts, a row for each layer and head.

    | column           | is                                                                            |
    | ---------------- | ----------------------------------------------------------------------------- |
    | `entropy`        | of a query's attention, in nats; n keys that share it evenly have ln n        |
    | `mean_distance`  | tokens between a query and its keys, weighted by attention                    |
    | `first_token`    | share of the first token of the text (the attention sink)                     |
    | `own_token`      | share of the query's own token                                                |
    | `previous_token` | share of the token before it                                                  |
    | `next_token`     | share of the token after it, in a stack that is not causal                    |
    | `attended`       | sum of the weights: 1 under a softmax, at most 1 under stick-breaking         |

    Cross-attention has no distances: its columns are `entropy`, `first_token` and `last_token` of the source, and
    `attended`. If weights do not sum to 1, all columns but the last describe them divided by their sum, and leave out
    queries that attend to nothing. Distance is counted in storage order, not in positions.

    Args:
        model: in evaluation mode.
        inputs: the texts.
        rows: queries of a block; memory grows with rows * T.
        stack: name of the attention, of `model.stacks`.

    Raises:
        ValueError: as of `attention_rows`.
    """
    sums: dict[int, pd.DataFrame] = {}
    for block in _blocks(model, inputs, rows, stack):
        shares_BHRS, attends_BHR = _shares(block.weights)
        by_query = {
            "entropy": torch.special.entr(shares_BHRS).sum(-1),
            "first_token": shares_BHRS[..., 0],
            "attended": block.weights.sum(-1),
            "attending": attends_BHR,
            "queries": torch.ones_like(attends_BHR),
        }
        if attends_to_itself(stack):
            by_query["mean_distance"] = (shares_BHRS * block.distance.abs()).sum(-1)
            neighbours = {"own_token": 0, "previous_token": -1} | ({} if is_causal(model, stack) else {"next_token": 1})
            by_query |= {name: shares_BHRS.diagonal(block.start + step, -2, -1) for name, step in neighbours.items()}
        else:
            by_query["last_token"] = shares_BHRS[..., -1]
        by_head = {name: values.sum((0, 2), dtype=torch.float64).cpu().numpy() for name, values in by_query.items()}
        sums[block.layer] = pd.DataFrame(by_head) + sums.get(block.layer, 0)
    totals = pd.concat(sums, names=["layer", "head"])
    means = totals.div(totals["attending"].clip(lower=1), axis=0).assign(
        attended=totals["attended"] / totals["queries"]
    )
    return means[[name for name in STATISTICS if name in means]].reset_index()


def attention_by_distance(model: Model, inputs: Inputs, rows: int = BLOCK, stack: str = "self") -> pd.DataFrame:
    """Return the mean attention of each head at each distance, over the queries that have a key there.

    At distance d these are the queries from position d on, so far distances are means over few. Keys ahead of a query
    have negative distances; a causal stack has none. Keys outside the window of a layer count as 0.

    Arguments and errors are as in `attention_statistics`; the stack attends to its own text.

    Returns:
        Columns `layer`, `head`, `distance` (0, ..., T - 1; from -(T - 1) on if not causal) and `attention`, a weight in
        [0, 1].
    """
    sums: dict[int, pd.DataFrame] = {}
    for block in _blocks(model, inputs, rows, stack):
        distance_RS, weights_HRS = block.distance, block.weights.sum(0, dtype=torch.float64)
        is_pair_RS = distance_RS >= 0 if is_causal(model, stack) else torch.ones_like(distance_RS, dtype=torch.bool)
        new = sums_by_offset(
            distance_RS[is_pair_RS].unsqueeze(-1), weights_HRS.movedim(0, -1)[is_pair_RS], ["distance"]
        )
        new["pairs"] *= len(block.weights)
        sums[block.layer] = added(sums.get(block.layer), new)
    frames = []
    for layer, total in sums.items():
        means = total.drop(columns="pairs").div(total["pairs"], axis=0).reset_index()
        frame = means.melt("distance", var_name="head", value_name="attention").astype({"head": int})
        frames.append(frame.assign(layer=layer)[["layer", "head", "distance", "attention"]])
    return pd.concat(frames, ignore_index=True)


def _blocks(model: Model, inputs: Inputs, rows: int, stack: str) -> Iterator[RowsOfLayer]:
    """Yield the blocks of all texts."""
    for texts in [inputs] if isinstance(inputs, Tensor) else inputs:
        yield from attention_rows(model, texts, rows=rows, stack=stack)


def _shares(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights (..., R, S) as shares of their sum, and whether a query attends to anything, (..., R)."""
    total = weights.sum(-1, keepdim=True)
    attends = total > 0
    return weights / total.where(attends, 1.0), attends.squeeze(-1)


def distance_plot(by_distance: pd.DataFrame, training_length: int | None = None) -> Plot:
    """Draw the means of `attention_by_distance`, a panel for each layer, a line for each head, and the training length.

    None as the training length, in tokens, draws no line there.
    """
    layers = sorted(by_distance["layer"].unique())
    both_ways = by_distance["distance"].min() < 0
    figure, panels = distance_panels([f"layer {layer}" for layer in layers], "mean attention")
    for panel, layer in zip(panels.flat, layers, strict=False):
        for head, rows in by_distance[by_distance["layer"] == layer].groupby("head"):
            # Means over distances of about equal logarithm and sign; 0 and the nearest distances are not merged.
            away = rows["distance"].abs().to_numpy()
            octave = 1 + np.floor(BINS_PER_OCTAVE * np.log2(np.maximum(away, 1)))
            of_bin = rows.groupby(np.where(away, np.sign(rows["distance"]) * octave, 0))[
                ["distance", "attention"]
            ].mean()
            look = {"linewidth": 1.2, "label": str(head), **head_style(int(str(head)))}
            panel.plot(of_bin["distance"], of_bin["attention"], **look)
        panel.set(yscale="log", xlim=(None if both_ways else 0, None))
        for end in (-1, 1) if both_ways else (1,):
            if training_length is not None:
                panel.axvline(end * training_length, color="0.6", linestyle=":")
    panels[0, 0].set_ylim(max(MIN_ATTENTION, by_distance["attention"].min() / 2), 1.2)
    head_legend(figure, panels[0, 0])
    return Plot(
        name="attention_by_distance",
        title="Attention against distance",
        caption="Each line is one head: the mean attention to a token at this distance (0 is the query's own token). A "
        "straight line falls as a power of distance, a bend downwards is a horizon, and a rise at the far end is the "
        f"first token.{' Tokens ahead of the query are on the left.' if both_ways else ''} A dotted line is the "
        "training length.",
        figure=figure,
    )


def distance_panels(names: Sequence[str], quantity: str, height: float = 2.5) -> tuple[Figure, np.ndarray]:
    """Return a figure with a panel of this height for each name, (rows, columns), whose x axes are distances."""
    columns = min(2, len(names))
    labels = {"xlabel": "distance (tokens)", "ylabel": quantity}
    figure, panels = panel_grid(len(names), columns, WIDTH, height, margin=1.0, sharex=True, sharey=True, **labels)
    for panel, name in zip(panels.flat, names, strict=False):
        panel.set_xscale("symlog", linthresh=1, linscale=0.5)
        panel.set_title(name, fontsize="medium")
    return figure, panels


def head_style(head: int) -> Style:
    """Return the colour and line of a head."""
    return without_marker(style(head))


def head_legend(figure: Figure, panel: Axes) -> None:
    """Add the heads drawn in a panel as the legend of a figure."""
    lines = panel.get_legend_handles_labels()
    figure.legend(*lines, title="head", loc="outside lower center", ncols=8, frameon=False)
