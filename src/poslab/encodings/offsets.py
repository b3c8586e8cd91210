"""Biases of the offset of query and key on each axis, which is a distance under a metric.

Dimension letters: B batch, H heads, T queries, S keys, R queries of a block of rows, A axes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from poslab.encodings.distance import ALL, BiasOfPairs, BiasTable
from poslab.encodings.made_for import MadeFor
from poslab.encodings.positions import Positions

Metric = Literal["euclidean", "manhattan", "chebyshev"]
"""Length of an offset: the root of the sum of squares, the sum, or the largest, over the axes."""

ORDERS: dict[Metric, float] = {"euclidean": 2, "manhattan": 1, "chebyshev": float("inf")}
"""Orders of their norms."""


def length_of(offset: Tensor, metric: Metric) -> Tensor:
    """Return the lengths, (...) float32, of offsets (..., A)."""
    return torch.linalg.vector_norm(offset.to(torch.float32), ORDERS[metric], dim=-1)


@dataclass(frozen=True)
class BiasOfOffsets:
    """Logit bias per head for tokens on several axes, made block by block; 0 where query or key stands nowhere.

    `bias_of` returns the bias of every head at offsets (..., A), query minus key, as (H, ...) float32. Where only one
    of the two has places, the other is a text, at the same number on every axis.
    """

    queries: Positions
    keys: Positions
    bias_of: Callable[[Tensor], Tensor]

    @property
    def made_for(self) -> MadeFor:
        return MadeFor.of(self.queries.coordinates_for_heads, self.keys.coordinates_for_heads)

    def matrix(self, rows: slice = ALL, keys: slice = ALL) -> Tensor:
        """Return the bias of all queries and keys, or of some rows and columns, (1 or B, H, R, S)."""
        queries_R1A = self.queries.coordinates_for_heads[..., rows, :].unsqueeze(-2)
        keys_1SA = self.keys.coordinates_for_heads[..., keys, :].unsqueeze(-3)
        offset = queries_R1A - keys_1SA
        with torch.autocast(offset.device.type, enabled=False):
            bias = self.bias_of(offset[None] if offset.dim() == 3 else offset[:, 0]).transpose(0, 1)
        for positions, tokens, dim in ((self.queries, rows, -1), (self.keys, keys, -2)):
            if positions.places is not None and positions.places.nowhere is not None:
                nowhere = positions.places.nowhere[..., tokens].unsqueeze(dim)
                bias = torch.where(nowhere.unsqueeze(-3), 0.0, bias)
        return bias


BiasOfPositions = BiasOfPairs | BiasOfOffsets
"""A bias that has no shorter form than its function."""

LogitBias = BiasTable | BiasOfPositions
"""A bias of the distance, or of the offset, in any of its forms."""
