"""Attention of each head by the offset of the key on each axis, for tokens on several axes, such as patches, as maps.

Dimension letters: B rows, H heads, T tokens, R queries of a block, S keys, A axes, N pairs of a query and a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from poslab.attention.blockwise import BLOCK
from poslab.encodings import Positions
from poslab.evaluation.attention.maps import attends_to_itself, capture_attention, is_causal, rows_of
from poslab.models import ForwardPass, Model
from poslab.report.figures import WIDTH, Plot, new_figure

MAX_PANELS_PER_ROW = 8  # maps in a row whose ticks and words can be read


class AttentionOnGrids(NamedTuple):
    """Attention of the tokens of grids.

    Args:
        by_offset: a row for each layer, head and offset, with the columns `layer`, `head`, one for each axis, which has
            its name (`height`, `width`) and is the cell of the key less the query's (-1 on `height` is the row
            above), `attention` (the mean weight of such a key, in [0, 1]) and `queries` (their number).
        by_head: a row for each layer and head, with the columns `layer`, `head`, `cells_away` (the mean distance of the
            cells that get attention, in a straight line, weighted by attention) and, if some tokens have no position,
            `without_position` (the share of attention that these get).
        axes: names of the axes.
    """

    by_offset: pd.DataFrame
    by_head: pd.DataFrame
    axes: tuple[str, ...]


def attention_on_grids(
    model: Model, inputs: Sequence[ForwardPass], rows: int = BLOCK, stack: str = "self"
) -> AttentionOnGrids | None:
    """Return the mean attention of each head at each offset between two cells of one grid; None if no token is on one.

        attention(o) = mean of w[i, j] over all queries i and keys j with cell(j) - cell(i) = o

    A query near a border has no key at some offsets, and does not count there: a far offset is a mean over few queries,
    and the farthest over one. Keys that a causal stack hides do not count either, and keys outside of the window of a
    layer count as 0. Cells are as in the data, wherever a sampler has moved them. Queries are the tokens of grids of
    at least two cells: texts and registers are none.

    Inputs are forward passes of one example each, and memory grows with rows * T. Errors are as of `attention_rows`.
    """
    assert attends_to_itself(stack)
    by_offset: dict[int, pd.DataFrame] = {}
    without_position: dict[int, pd.DataFrame] = {}
    axes: tuple[str, ...] = ()
    for forward in inputs:
        layers = capture_attention(model, forward, stack=stack)
        positions, real = layers[0].context.key_positions, layers[0].context.visibility.real_keys
        if positions.places is None:
            continue
        axes = positions.places.axes
        cells_BTA, grids_BT, on_grid_BT, no_position_BT = _of_tokens(positions, real, layers[0].queries.shape[0])
        for block in rows_of(layers, rows):
            num_queries, num_keys = block.weights.shape[-2:]
            queries, keys = slice(block.start, block.start + num_queries), slice(num_keys)
            on_grid_BRS = on_grid_BT[:, queries, None] & on_grid_BT[:, None, keys]
            is_pair_BRS = on_grid_BRS & (grids_BT[:, queries, None] == grids_BT[:, None, keys])
            if is_causal(model, stack):
                is_pair_BRS = is_pair_BRS & (block.distance >= 0)
            offset_NA = (cells_BTA[:, None, keys] - cells_BTA[:, queries, None])[is_pair_BRS]
            sums = sums_by_offset(offset_NA, block.weights.movedim(1, -1)[is_pair_BRS], axes)
            by_offset[block.layer] = added(by_offset.get(block.layer), sums)
            is_query_BR = on_grid_BT[:, queries]
            lost_BHR = (block.weights * no_position_BT[:, None, None, keys]).sum(-1, dtype=torch.float64)
            sums = pd.DataFrame({"without_position": (lost_BHR * is_query_BR[:, None]).sum((0, 2)).cpu().numpy()})
            sums["queries"] = float(is_query_BR.sum()) if no_position_BT.any() else 0.0
            without_position[block.layer] = added(without_position.get(block.layer), sums)
    if not any(map(len, by_offset.values())):
        return None
    frames = []
    for layer, of_layer in by_offset.items():
        for head in of_layer.columns.drop("pairs"):
            mean, number = of_layer[head] / of_layer["pairs"], of_layer["pairs"].astype(int)
            frame = pd.DataFrame({"attention": mean, "queries": number}).reset_index()
            frame.insert(0, "layer", layer)
            frame.insert(1, "head", head)
            frames.append(frame)
    every = pd.concat(frames, ignore_index=True)
    weight = every["attention"] * every["queries"]
    distances = pd.DataFrame({"values": weight * np.linalg.norm(every[list(axes)], axis=1), "weight": weight})
    totals = distances.groupby([every["layer"], every["head"]]).sum()
    by_head = (totals["values"] / totals["weight"]).rename("cells_away").reset_index()
    lost = pd.concat(without_position, names=["layer", "head"])
    if (lost["queries"] > 0).all():
        by_head["without_position"] = (lost["without_position"] / lost["queries"]).to_numpy()
    return AttentionOnGrids(every, by_head, axes)


def with_cells(statistics: pd.DataFrame, grids: AttentionOnGrids) -> pd.DataFrame:
    """Return `attention_statistics` with the columns `by_head` of grids.

    Distances in cells replace distances in storage, and on several axes nothing is left that depends on the order in
    storage: its first token, and the neighbours of a token.
    """
    in_storage = ["mean_distance"]
    if len(grids.axes) > 1:
        in_storage += ["first_token", "previous_token", "next_token"]
    kept = statistics.drop(columns=[name for name in in_storage if name in statistics])
    merged = kept.merge(grids.by_head, on=["layer", "head"])
    return merged[[*merged.columns.drop("attended"), "attended"]]


def sums_by_offset(offset_NA: Tensor, values_NH: Tensor, axes: Sequence[str]) -> pd.DataFrame:
    """Return sums of values by offset: float64 columns 0, 1, ..., H - 1 and `pairs`, the number of the summands.

    The index has a level for each axis; the offsets, (N, A) integers, are those that occur.
    """
    offset_NA, values_NH = offset_NA.cpu(), values_NH.cpu()  # where sums have one order
    reach_A = offset_NA.abs().amax(0) if len(offset_NA) else offset_NA.new_zeros(len(axes))
    sides = (2 * reach_A + 1).tolist()
    number_N = torch.zeros_like(offset_NA[:, 0])
    for on_axis, reach, side in zip(offset_NA.unbind(-1), reach_A, sides, strict=True):
        number_N = number_N * side + on_axis + reach
    counted_NH = torch.cat([values_NH, torch.ones_like(values_NH[:, :1])], dim=-1).double()
    sums = counted_NH.new_zeros(int(np.prod(sides)), counted_NH.shape[1]).index_add_(0, number_N, counted_NH)
    occurs = sums[:, -1].numpy() > 0
    offsets = np.stack(np.unravel_index(np.flatnonzero(occurs), sides)) - reach_A.numpy()[:, None]
    columns = [*range(values_NH.shape[1]), "pairs"]
    return pd.DataFrame(sums.numpy()[occurs], pd.MultiIndex.from_arrays(list(offsets), names=list(axes)), columns)


def _of_tokens(positions: Positions, real: Tensor | None, batch: int) -> tuple[Tensor, ...]:
    """Return cells of tokens (B, T, A), their grids, and which are on one or have no position, (B, T)."""
    grid = positions.places
    assert grid is not None
    no_cells = torch.zeros_like(grid.grids).bool()
    without_position = no_cells if grid.without_position is None else grid.without_position
    on_grid = ~without_position & (grid.sizes.prod(-1) > 1)
    on_grid = on_grid if real is None else on_grid & real
    of_tokens = (x.expand(batch, -1) for x in (grid.grids, on_grid, without_position))
    return grid.cells.expand(batch, -1, -1), *of_tokens


def added(total: pd.DataFrame | None, new: pd.DataFrame) -> pd.DataFrame:
    """Return `sums_by_offset` of two sets of pairs; None is of none."""
    return new if total is None else total.add(new, fill_value=0)


def attention_by_offset_plot(grids: AttentionOnGrids) -> Plot:
    """Draw the maps of `attention_on_grids`, of two axes or more, over the last two."""
    percent = grids.by_offset.assign(attention=100 * grids.by_offset["attention"])
    down, right = grids.axes[-2:]
    return Plot(
        name="attention_by_offset",
        title="Attention by offset",
        caption=f"Each map is one head. Its middle is the query's own cell, {down} grows downwards, {right} to the "
        f"right, in cells{at_no_offset(grids.axes)}. A colour is the mean attention to such a key, over the queries "
        "that have one: the rim is a mean over few. Darker is more, on a scale of square roots.",
        figure=offset_maps(percent, "attention", ("layer", "head"), grids.axes, "mean attention (%)"),
    )


def offset_maps(
    frame: pd.DataFrame,
    value: str,
    by: tuple[str, str],
    axes: Sequence[str],
    quantity: str,
    is_signed: bool = False,
    offset: str = "key less query",
    most: float | None = None,
) -> Figure:
    """Draw a map of offsets on the last two axes for each row and column of panels, under one scale of colours.

    Args:
        frame: has the columns `by`, the axes, and the value; rows with an offset on an axis before the last two are
            left out.
        by: columns of the rows and columns of panels.
        quantity: label of the colours.
        is_signed: numbers of either sign, red above 0 and blue below; otherwise from 0 on, on a scale of square roots,
            which makes small ones visible next to large ones.
        offset: label of an offset.
        most: number of the deepest colour; None is the largest.
    """
    before, (down, right) = [axis for axis in axes[:-2] if axis in frame], axes[-2:]
    frame = frame[(frame[before] == 0).all(axis=1)]
    rows, columns = (list(dict.fromkeys(frame[name])) for name in by)
    most = float(frame[value].abs().max()) if most is None else most
    colours, norm = ("RdBu_r", Normalize(-most or -1, most or 1)) if is_signed else ("Blues", PowerNorm(0.5, 0, most))
    tallest = max(np.ptp(rows_of_map[down]) + 1 for _, rows_of_map in frame.groupby(list(by))) if len(frame) else 1
    widest = np.ptp(frame[right].to_numpy()) + 1
    panel_width = (WIDTH - 0.9) / len(columns)
    figure = new_figure(WIDTH, 1.3 + len(rows) * (0.1 + panel_width * min(1.6, tallest / widest)))
    panels = figure.subplots(len(rows), len(columns), squeeze=False)
    words = by if len(columns) <= MAX_PANELS_PER_ROW else ("", "")
    image = None
    for (row, column), panel in np.ndenumerate(panels):
        of_panel = frame[(frame[by[0]] == rows[row]) & (frame[by[1]] == columns[column])]
        if not len(of_panel):  # a pattern of encodings, of which one has a map for all heads
            panel.set_axis_off()
            continue
        image = _draw_map(panel, of_panel.pivot(index=down, columns=right, values=value), colours, norm)
        if row < len(rows) - 1 or len(columns) > MAX_PANELS_PER_ROW:
            panel.set_xticklabels([])
        if column or len(columns) > MAX_PANELS_PER_ROW:
            panel.set_yticklabels([])
        if row == 0:
            panel.set_title(_panel_name(words[1], columns[column]), fontsize="small")
        if column == 0 and len(rows) > 1:
            panel.set_ylabel(_panel_name(words[0], rows[row]), fontsize="small")
    figure.supylabel(f"{down}: {offset} (cells)", fontsize="small")
    assert image is not None
    bar = figure.colorbar(image, ax=panels, location="bottom", shrink=0.7, aspect=30)
    bar.ax.xaxis.set_major_locator(MaxNLocator(4))
    bar.ax.tick_params(labelsize="small")
    bar.set_label(quantity, fontsize="small")
    bar.ax.set_title(f"{right}: {offset} (cells)", fontsize="small")
    return figure


def _draw_map(panel: Axes, table: pd.DataFrame, colours: str, norm: Normalize) -> Any:
    """Draw values by the offset on two axes, with the cell of the query marked; offsets without a row stay empty."""
    (top, bottom), (left, right) = ((int(index.min()), int(index.max())) for index in (table.index, table.columns))
    table = table.reindex(index=range(top, bottom + 1), columns=range(left, right + 1))
    extent = (left - 0.5, right + 0.5, bottom + 0.5, top - 0.5)
    image = panel.imshow(table, cmap=colours, norm=norm, extent=extent, interpolation="nearest")
    is_dark = np.mean(image.cmap(norm(float(table.to_numpy()[-top, -left])))[:3]) < 0.5
    edge = "white" if is_dark else "black"
    panel.plot(0, 0, marker="s", markersize=3, markerfacecolor="none", markeredgecolor=edge, markeredgewidth=0.8)
    panel.set(xticks=sorted({left, 0, right}), yticks=sorted({top, 0, bottom}))
    panel.tick_params(length=1.5, pad=1, labelsize="small")
    return image


def _panel_name(word: str, value: object) -> str:
    """Return the name of a row or column of panels: `head 3`, or `layers 0, 1`, which is in words already."""
    return value if isinstance(value, str) else f"{word} {value}".strip()


def at_no_offset(axes: Sequence[str]) -> str:
    """Return words for the axes before the last two; nothing if there is none."""
    return f", at no offset on {' and '.join(axes[:-2])}" if len(axes) > 2 else ""
