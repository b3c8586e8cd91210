"""Attention of each head by the offset of the key on each axis, for tokens on several axes, such as patches.

Dimension letters: B rows, H heads, T tokens, R queries of a block, S keys, A axes, N pairs of a query and a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from poslab.attention.blockwise import BLOCK
from poslab.encodings import Positions
from poslab.evaluation.attention.rows import capture_attention, rows_of
from poslab.evaluation.attention.statistics import attends_to_itself, is_causal
from poslab.models import ForwardPass, Model

OF_HEADS = ("layer", "head")


class AttentionOnGrids(NamedTuple):
    """Attention of the tokens of grids.

    Args:
        by_offset: a row for each layer, head and offset, with the columns `layer`, `head`, one for each axis, which has
            its name (`height`, `width`) and holds the cell of the key less that of the query (-1 on `height` is the row
            above), `attention` (the mean weight of such a key, in [0, 1]) and `queries` (their number).
        by_head: a row for each layer and head, with the columns `layer`, `head`, `cells_away` (the mean distance of the
            cells that get attention, in a straight line, weighted by attention) and, if some tokens stand nowhere,
            `nowhere` (the share of attention that these get).
        axes: names of the axes.
        cells_away_if_even: `cells_away` of attention that is the same for all cells of its grid that a query sees.
    """

    by_offset: pd.DataFrame
    by_head: pd.DataFrame
    axes: tuple[str, ...]
    cells_away_if_even: float


def attention_on_grids(
    model: Model, read: Sequence[ForwardPass], rows: int = BLOCK, stack: str = "self"
) -> AttentionOnGrids | None:
    """Return the mean attention of each head at each offset between two cells of one grid.

        attention(o) = mean of w[i, j] over all queries i and keys j with cell(j) - cell(i) = o

    A query near a border has no key at some offsets, and does not count there: a far offset is a mean over few queries,
    and the farthest over one. Keys that a causal stack hides do not count either, and those outside of the window of a
    layer count as 0. Cells are those of the data, wherever a sampler has moved them. Queries are the tokens of grids of
    at least two cells: texts and registers are none.

    Args:
        model: in evaluation mode.
        read: what has the model read one example after the other.
        rows: queries of a block; memory grows with rows * T.
        stack: name of the attention, of `model.stacks`, which attends to its own tokens.

    Returns:
        None if no token stands on a grid.

    Raises:
        ValueError: as of `attention_rows`.
    """
    assert attends_to_itself(stack)
    by_offset: dict[int, pd.DataFrame] = {}
    nowhere: dict[int, pd.DataFrame] = {}
    axes: tuple[str, ...] = ()
    even = np.zeros(2)  # sums of the distances and of the weights of even attention
    for one in read:
        seen = capture_attention(model, one, stack=stack)
        positions, real = seen[0].context.key_positions, seen[0].context.visibility.real_keys
        if positions.places is None:
            continue
        axes = positions.places.axes
        tokens = _Tokens.of(positions, real, seen[0].queries.shape[0])
        for block in rows_of(seen, rows):
            num_queries, num_keys = block.weights.shape[-2:]
            queries, keys = slice(block.start, block.start + num_queries), slice(num_keys)
            is_pair_BRS = tokens.are_of_one_grid(queries, keys)
            if is_causal(model, stack):
                is_pair_BRS = is_pair_BRS & (block.distance >= 0)
            offset_NA = tokens.offset(queries, keys)[is_pair_BRS]
            sums = sums_by_offset(offset_NA, block.weights.movedim(1, -1)[is_pair_BRS], axes)
            by_offset[block.layer] = _added(by_offset.get(block.layer), sums)
            weight_BR1 = 1 / is_pair_BRS.sum(-1, keepdim=True).double()
            weight_N = weight_BR1.expand_as(is_pair_BRS)[is_pair_BRS]
            even += [float(offset_NA.double().norm(dim=-1) @ weight_N), float(weight_N.sum())]
            is_query_BR = tokens.on_grid[:, queries]
            lost_BHR = (block.weights * tokens.nowhere[:, None, None, keys]).sum(-1, dtype=torch.float64)
            sums = pd.DataFrame({"nowhere": (lost_BHR * is_query_BR[:, None]).sum((0, 2)).cpu().numpy()})
            sums["queries"] = float(is_query_BR.sum()) if tokens.nowhere.any() else 0.0
            nowhere[block.layer] = _added(nowhere.get(block.layer), sums)
    if not any(map(len, by_offset.values())):
        return None
    lost = pd.concat(nowhere, names=list(OF_HEADS))
    frame = _means(by_offset)
    away = np.linalg.norm(frame[list(axes)], axis=1)
    by_head = _mean_by_head(frame, away, frame["attention"] * frame["queries"]).rename("cells_away").reset_index()
    if (lost["queries"] > 0).all():
        by_head["nowhere"] = (lost["nowhere"] / lost["queries"]).to_numpy()
    return AttentionOnGrids(frame, by_head, axes, float(even[0] / even[1]))


def with_cells(statistics: pd.DataFrame, grids: AttentionOnGrids) -> pd.DataFrame:
    """Return `attention_statistics` with what is known of grids.

    Distances in cells take the place of those in storage, and on several axes nothing is left that speaks of the order
    in storage: its first token, and the tokens beside one.
    """
    in_storage = ["mean_distance"]
    if len(grids.axes) > 1:
        in_storage += ["first_token", "previous_token", "next_token"]
    kept = statistics.drop(columns=[name for name in in_storage if name in statistics])
    merged = kept.merge(grids.by_head, on=list(OF_HEADS))
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
    found = sums[:, -1].numpy() > 0
    offsets = np.stack(np.unravel_index(np.flatnonzero(found), sides)) - reach_A.numpy()[:, None]
    columns = [*range(values_NH.shape[1]), "pairs"]
    return pd.DataFrame(sums.numpy()[found], pd.MultiIndex.from_arrays(list(offsets), names=list(axes)), columns)


class _Tokens(NamedTuple):
    """Cells of tokens (B, T, A), the numbers of their grids, and which stand on a grid and which nowhere, (B, T)."""

    cells: Tensor
    grids: Tensor
    on_grid: Tensor
    nowhere: Tensor

    @classmethod
    def of(cls, positions: Positions, real: Tensor | None, batch: int) -> _Tokens:
        places = positions.places
        assert places is not None
        nowhere = torch.zeros_like(places.grids).bool() if places.nowhere is None else places.nowhere
        on_grid = ~nowhere & (places.sizes.prod(-1) > 1)
        on_grid = on_grid if real is None else on_grid & real
        of_tokens = (x.expand(batch, -1) for x in (places.grids, on_grid, nowhere))
        return cls(places.cells.expand(batch, -1, -1), *of_tokens)

    def are_of_one_grid(self, queries: slice, keys: slice) -> Tensor:
        """Return True where a query and a key stand on the same grid, (B, R, S)."""
        both = self.on_grid[:, queries, None] & self.on_grid[:, None, keys]
        return both & (self.grids[:, queries, None] == self.grids[:, None, keys])

    def offset(self, queries: slice, keys: slice) -> Tensor:
        """Return the cells of keys less those of queries, (B, R, S, A)."""
        return self.cells[:, None, keys] - self.cells[:, queries, None]


def _added(total: pd.DataFrame | None, new: pd.DataFrame) -> pd.DataFrame:
    return new if total is None else total.add(new, fill_value=0)


def _means(sums: dict[int, pd.DataFrame]) -> pd.DataFrame:
    """Return `by_offset` from the sums of each layer."""
    frames = []
    for layer, of_layer in sums.items():
        for head in of_layer.columns.drop("pairs"):
            mean, queries = of_layer[head] / of_layer["pairs"], of_layer["pairs"].astype(int)
            frame = pd.DataFrame({"attention": mean, "queries": queries}).reset_index()
            frame.insert(0, "layer", layer)
            frame.insert(1, "head", head)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _mean_by_head(by_offset: pd.DataFrame, values: np.ndarray, weight: pd.Series[float]) -> pd.Series[float]:
    """Return the mean of values for each head, weighted."""
    sums = (
        pd.DataFrame({"values": weight * values, "weight": weight}).groupby([by_offset[key] for key in OF_HEADS]).sum()
    )
    return sums["values"] / sums["weight"]
