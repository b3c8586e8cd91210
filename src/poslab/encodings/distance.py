"""Biases that depend only on the distance of query and key, and the distances themselves.

Dimension letters: B batch, H heads, T queries, S keys, R queries of a block of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from poslab.arguments import Count
from poslab.encodings.positions import Positions
from poslab.encodings.shape import TableShape, require_heads

ALL = slice(None)


class TokenPairs(NamedTuple):
    """Ids of queries, (T,) or (B, T), and of keys, (S,) or (B, S), whose distances are made block by block."""

    query_ids: Tensor
    key_ids: Tensor

    @classmethod
    def between(cls, query_positions: Positions, key_positions: Positions) -> TokenPairs:
        """Return the pairs of all queries and keys at these positions."""
        return cls(query_positions.ids, key_positions.ids)

    @property
    def expected_shape(self) -> TableShape:
        return TableShape.of(self.query_ids[..., None, :, None], self.key_ids[..., None, :, None])

    def distance(self, rows: slice = ALL, keys: slice = ALL) -> Tensor:
        """Return the distances of some queries to some keys, (1 or B, 1, R, S), integer or real as the ids."""
        distance = self.query_ids[..., rows].unsqueeze(-1) - self.key_ids[..., keys].unsqueeze(-2)
        return distance[None, None] if distance.dim() == 2 else distance.unsqueeze(1)

    def whole_distance(self, rows: slice = ALL, keys: slice = ALL) -> Tensor:
        """Return `distance` rounded where positions are real (CAPE), int64, for tables with a row per distance."""
        return self.distance(rows, keys).round().long()


@dataclass(frozen=True)
class BiasTable:
    """Logit bias per head for contiguous positions: one number for each distance.

    Args:
        values: (H, T + S - 1) float32, the bias at distances from first query - last key to last query - first key.
        num_queries: T.
    """

    values: Tensor
    num_queries: int

    @property
    def num_keys(self) -> int:
        """Number of keys S."""
        return self.values.shape[-1] - self.num_queries + 1

    @property
    def expected_shape(self) -> TableShape:
        return TableShape(1, self.num_queries, self.num_keys, self.values.device)

    def for_heads(self, num_heads: Count) -> Tensor:
        """Return the values for H heads, (H, T + S - 1); one head represents all.

        ValueError for a bias with another number of heads.
        """
        require_heads("bias", len(self.values), num_heads)
        return self.values.expand(num_heads, -1)

    def matrix(self, rows: slice = ALL, keys: slice = ALL) -> Tensor:
        """Return the bias of all queries and keys, or of some rows and columns, (1, H, R, S)."""
        # Row i, column j is entry S - 1 + i - j: rows of a Toeplitz matrix are windows of its reversed vector, the last
        # row first. The vector is cut before the windows: the gradient of part of all windows has the size of them all.
        start, stop, _ = rows.indices(self.num_queries)
        first, end, _ = keys.indices(self.num_keys)
        needed = self.values[:, self.num_keys - end + start : self.num_keys - 1 - first + stop]
        return needed.flip(-1).unfold(-1, end - first, 1)[None].flip(-2)


@dataclass(frozen=True)
class BiasOfPairs:
    """Logit bias per head for any positions, made block by block, since it has no shorter form.

    `bias_at` returns the bias of every head at distances of any shape, (H, *distance.shape) float32.
    """

    pairs: TokenPairs
    bias_at: Callable[[Tensor], Tensor]

    @property
    def expected_shape(self) -> TableShape:
        return self.pairs.expected_shape

    def matrix(self, rows: slice = ALL, keys: slice = ALL) -> Tensor:
        """Return the bias of all queries and keys, or of some rows and columns, (1 or B, H, R, S)."""
        distance_BRS = self.pairs.distance(rows, keys)[:, 0]
        if distance_BRS.is_floating_point():
            distance_BRS = distance_BRS.to(torch.float32)  # real ids may be float64
        with torch.autocast(distance_BRS.device.type, enabled=False):
            return self.bias_at(distance_BRS).transpose(0, 1)
