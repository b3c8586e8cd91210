"""Blocks of query rows under a bias of distance or offset, and their masks, made of the vector of the bias.

A bias of distance is one number for each distance and head. The T x S matrix is a view of these: with the rows of a
block in reverse, row r and column j have number r + j, and PyTorch's kernel accepts the strides (1, 1) as a mask. Under
a bias of offsets on a grid, the numbers of a block are differences of places, and its mask is gathered.

Dimension letters: B batch, H heads, T queries, S keys, R queries of a block, K keys that a block sees,
N = T + S - 1 distances, or offsets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class OfRows(NamedTuple):
    """Numbers of each query, (1 or B, T), and of each key, (1 or B, S), of rows of the batch; None for none.

    Segments and real keys are as in `Visibility`, `query_places` and `key_places` as in `BiasOfLattice`; a bias of
    distance has no places.
    """

    query_segments: Tensor | None = None
    key_segments: Tensor | None = None
    real_keys: Tensor | None = None
    query_places: Tensor | None = None
    key_places: Tensor | None = None


class DistanceBlock(NamedTuple):
    """A block of query rows, last row first, and the keys that any of them may see."""

    rows: slice
    keys: slice
    first_distance: int
    """Index of its first row and column in the vector, which begins at the largest distance."""

    numbers: Tensor | None
    """(1 or B, R, K) index of each row and column in the vector of a bias of offsets; None for one of distance."""

    mask: Tensor
    """(1 or B, H, R, K): the bias, and minus infinity where a query does not see a key."""


def blocks(
    bias_HN: Tensor, num_queries: int, num_keys: int, block: int, nearest: int, furthest: int, of_rows: OfRows
) -> Iterator[DistanceBlock]:
    """Yield the blocks of all queries, first to last.

    Args:
        bias_HN: bias at successive distances, starting with the distance from the first query to the last key; or
            values of a `BiasOfLattice`.
        num_queries, num_keys: T and S.
        block: query rows of a block; the last may have fewer.
        nearest, furthest: least and largest distance in storage at which a query sees a key.
        of_rows: numbers of the queries and keys.
    """
    query_segments, key_segments, real_keys, query_places, key_places = of_rows
    distance_N = torch.arange(1 - num_queries, num_keys, device=bias_HN.device)
    hidden_N = (distance_N < nearest) | (distance_N > furthest)
    of_distance_HN = bias_HN if query_places is None else bias_HN.new_zeros(1, len(distance_N))
    descending_HN = of_distance_HN.masked_fill(hidden_N, -math.inf).flip(-1).contiguous()
    for start in range(0, num_queries, block):
        stop = min(start + block, num_queries)
        # A block that sees nothing keeps one key, hidden: the kernel does not support a mask without keys.
        begin = min(max(0, num_keys - num_queries + start - furthest), num_keys - 1)
        end = max(min(num_keys, num_keys - num_queries + stop - nearest), begin + 1)
        rows, keys = slice(start, stop), slice(begin, end)
        first_distance = num_queries - stop + begin
        mask = descending_HN.as_strided(
            (1, len(descending_HN), stop - start, end - begin),
            (0, descending_HN.stride(0), 1, 1),
            descending_HN.storage_offset() + first_distance,
        )
        numbers = None
        if query_places is not None and key_places is not None:
            numbers = query_places[:, rows].flip(1).unsqueeze(-1) - key_places[:, keys].unsqueeze(-2)
            gathered = bias_HN[:, numbers].transpose(0, 1)
            first, last = num_keys - num_queries + start, num_keys - num_queries + stop - 1
            mask = gathered + mask if first - (end - 1) < nearest or last - begin > furthest else gathered
        if query_segments is not None and key_segments is not None:
            other = query_segments[:, None, rows, None].flip(2) != key_segments[:, None, None, keys]
            mask = mask.masked_fill(other, -math.inf)
        if real_keys is not None:
            mask = mask.masked_fill(~real_keys[:, None, None, keys], -math.inf)
        yield DistanceBlock(rows, keys, first_distance, numbers, mask)


def by_rows(x: Tensor) -> Tensor:
    """Return x with the channels of a row contiguous, which PyTorch's kernel expects and does not check."""
    return x if x.stride(-1) == 1 else x.contiguous()
