"""What depends on the distance of a query and a key alone: biases, and the distances themselves.

Dimension letters: B batch, H heads, T query positions, S key positions, R query positions of a block of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from poslab.arguments import Count
from poslab.encodings.made_for import MadeFor
from poslab.encodings.positions import Positions

ALL = slice(None)


class Pairs(NamedTuple):
    """The ids of queries and keys, (T,) or (B, T) and (S,) or (B, S): their distances are made row block by block."""

    query_ids: Tensor
    key_ids: Tensor

    @classmethod
    def between(cls, query_positions: Positions, key_positions: Positions) -> Pairs:
        """The pairs of all queries and keys at these positions."""
        return cls(query_positions.ids, key_positions.ids)

    @property
    def made_for(self) -> MadeFor:
        """The queries and keys of the pairs."""
        return MadeFor.of(self.query_ids[..., None, :, None], self.key_ids[..., None, :, None])

    def distance(self, rows: slice = ALL, keys: slice = ALL) -> Tensor:
        """The distance of some queries to some keys, (1 or B, 1, R, S), integer or real as the ids are."""
        distance = self.query_ids[..., rows].unsqueeze(-1) - self.key_ids[..., keys].unsqueeze(-2)
        return distance[None, None] if distance.dim() == 2 else distance.unsqueeze(1)

    def whole_distance(self, rows: slice = ALL, keys: slice = ALL) -> Tensor:
        """As `distance`, rounded where positions are real (CAPE), int64: for tables with a row per distance."""
        return self.distance(rows, keys).round().long()


@dataclass(frozen=True)
class BiasTable:
    """A logit bias per head of tokens whose distance is that in storage: one number for each distance.

    Args:
        values: (H, T + S - 1) float32, the bias at successive distances, from that of the first query to the last key
            to that of the last query to the first key.
        num_queries: T.
    """

    values: Tensor
    num_queries: int

    @property
    def num_keys(self) -> int:
        """S."""
        return self.values.shape[-1] - self.num_queries + 1

    @property
    def made_for(self) -> MadeFor:
        """The queries and keys, of any rows."""
        return MadeFor(1, self.num_queries, self.num_keys, self.values.device)

    def for_heads(self, num_heads: Count) -> Tensor:
        """Return the values, (H, T + S - 1) for H heads; one head stands for all.

        Raises:
            ValueError: for a bias of another number of heads.
        """
        if self.values.shape[0] not in (1, num_heads):
            raise ValueError(f"bias must have one head, or one for each of {num_heads}, got {self.values.shape[0]}")
        return self.values.expand(num_heads, -1)

    def matrix(self, rows: slice = ALL, keys: slice = ALL) -> Tensor:
        """The bias of the queries and keys, or of some rows and columns of them, (1, H, R, S)."""
        # Entry S - 1 + i - j is for row i, column j: rows of a Toeplitz matrix are windows of its reversed vector, the
        # last row first. What these rows and columns need is taken first: the gradient of a part of all windows would
        # have the size of them all.
        start, stop, _ = rows.indices(self.num_queries)
        first, end, _ = keys.indices(self.num_keys)
        needed = self.values[:, self.num_keys - end + start : self.num_keys - 1 - first + stop]
        return needed.flip(-1).unfold(-1, end - first, 1)[None].flip(-2)


@dataclass(frozen=True)
class BiasOfPairs:
    """A logit bias per head of tokens at any positions: made block by block, for it has no shorter form.

    Args:
        pairs: the positions of queries and keys.
        bias_at: the bias of every head at distances of any shape, (H, *distance.shape) float32.
    """

    pairs: Pairs
    bias_at: Callable[[Tensor], Tensor]

    @property
    def made_for(self) -> MadeFor:
        """The queries and keys of the pairs."""
        return self.pairs.made_for

    def matrix(self, rows: slice = ALL, keys: slice = ALL) -> Tensor:
        """The bias of the queries and keys, or of some rows and columns of them, (1 or B, H, R, S)."""
        distance_BRS = self.pairs.distance(rows, keys)[:, 0]
        with torch.autocast(distance_BRS.device.type, enabled=False):
            return self.bias_at(distance_BRS).transpose(0, 1)
