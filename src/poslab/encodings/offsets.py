"""Biases of the offset of query and key on each axis, which is a distance under a metric.

Dimension letters: B batch, H heads, T queries, S keys, R queries of a block of rows, A axes, N offsets.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from poslab.arguments import Count
from poslab.encodings.distance import ALL, BiasOfPairs, BiasTable
from poslab.encodings.places import Places
from poslab.encodings.positions import Positions
from poslab.encodings.shape import TableShape, require_heads

Metric = Literal["euclidean", "manhattan", "chebyshev"]
"""Length of an offset: the root of the sum of squares, the sum, or the largest, over the axes."""

ORDERS: dict[Metric, float] = {"euclidean": 2, "manhattan": 1, "chebyshev": float("inf")}  # orders of their norms


def length_of(offset: Tensor, metric: Metric) -> Tensor:
    """Return the lengths, (...) float32, of offsets (..., A)."""
    return torch.linalg.vector_norm(offset.to(torch.float32), ORDERS[metric], dim=-1)


@dataclass(frozen=True)
class BiasOfOffsets:
    """Logit bias per head for tokens on several axes, made block by block.

    Where only one of queries and keys has places, the other is a text, at the same number on every axis.

    Args:
        queries, keys: positions of T queries and of S keys.
        bias_of: returns the bias of every head at offsets (..., A), query minus key, as (H, ...) float32.
        without_position: (H, 3) float32, the bias of a query without a position, of such a key, and of both; None is 0.
    """

    queries: Positions
    keys: Positions
    bias_of: Callable[[Tensor], Tensor]
    without_position: Tensor | None = None

    @property
    def expected_shape(self) -> TableShape:
        return TableShape.of(self.queries.coordinates_for_heads, self.keys.coordinates_for_heads)

    def matrix(self, rows: slice = ALL, keys: slice = ALL) -> Tensor:
        """Return the bias of all queries and keys, or of some rows and columns, (1 or B, H, R, S)."""
        queries_R1A = self.queries.coordinates_for_heads[..., rows, :].unsqueeze(-2)
        keys_1SA = self.keys.coordinates_for_heads[..., keys, :].unsqueeze(-3)
        offset = queries_R1A - keys_1SA
        with torch.autocast(offset.device.type, enabled=False):
            bias = self.bias_of(offset[None] if offset.dim() == 3 else offset[:, 0]).transpose(0, 1)
            bias = bias.to(torch.float32)  # real coordinates may be float64
        of_query, of_key, of_both = _bias_or_zeros(self.without_position, bias).unsqueeze(-1).unsqueeze(-1).unbind(1)
        if self.queries.without_position is not None:
            query_without_position = self.queries.without_position[..., None, rows, None]
            bias = torch.where(query_without_position, of_query, bias)
            of_key = torch.where(query_without_position, of_both, of_key)
        if self.keys.without_position is not None:
            bias = torch.where(self.keys.without_position[..., None, None, keys], of_key, bias)
        return bias


@dataclass(frozen=True)
class BiasOfLattice:
    """Logit bias per head for tokens in the cells of grids: one number for each offset that cells can have.

    A grid of n_1, ..., n_A cells has N = (2 n_1 - 1) ... (2 n_A - 1) offsets. Counted row after row, the number of an
    offset is a difference of one number of the query and one of the key, as on a single axis. A bias of T x S pairs of
    a grid is therefore a look-up in about 2 ** A * T numbers.

    Args:
        values: (H, N or more) float32; the bias of query i and key j is `values[:, query_places[i] - key_places[j]]`.
        query_places, key_places: (1 or B, T) and (1 or B, S), int64.
    """

    values: Tensor
    query_places: Tensor
    key_places: Tensor

    @classmethod
    def between(
        cls,
        queries: Positions,
        keys: Positions,
        bias_of: Callable[[Tensor], Tensor],
        without_position: Tensor | None = None,
    ) -> BiasOfLattice | None:
        """Return the bias of a function of offsets; None if coordinates are not cells, or have too many offsets.

        Too many are more than a quarter of the T x S pairs: the function is then called at the pairs themselves.
        Arguments as of `BiasOfOffsets`.
        """
        if queries.places is None or keys.places is None:
            return None
        if queries.places.stops is None or keys.places.stops is None:
            return None
        sizes = tuple(map(max, queries.places.stops, keys.places.stops))
        num_offsets = math.prod([2 * size - 1 for size in sizes])  # a list, which torch.compile can read
        if 4 * num_offsets > queries.length * keys.length:
            return None
        on_axes = [torch.arange(1 - size, size, device=queries.ids.device) for size in sizes]
        offsets_NA = torch.stack(torch.meshgrid(*on_axes, indexing="ij"), dim=-1).flatten(0, -2)
        with torch.autocast(offsets_NA.device.type, enabled=False):
            values = bias_of(offsets_NA)
        middle = num_offsets // 2
        query_places, key_places = _numbers(queries.places, sizes) + middle, _numbers(keys.places, sizes)
        if queries.without_position is not None or keys.without_position is not None:
            # After the values of offsets come the values of a query without a position, by key, of such a key, by
            # query, and of both; the places of such tokens lead there.
            query_places = _set_without_position(query_places, queries, num_offsets + middle)
            key_places = _set_without_position(key_places, keys, -num_offsets - 1)
            counts = (middle + 1, num_offsets, 1)
            biases = _bias_or_zeros(without_position, values).split(1, dim=1)
            behind = [bias.expand(len(values), count) for bias, count in zip(biases, counts, strict=True)]
            values = torch.cat([values, *behind], dim=1)
        return cls(values, query_places, key_places)

    @property
    def expected_shape(self) -> TableShape:
        return TableShape.of(self.query_places[:, None, :, None], self.key_places[:, None, :, None])

    def for_heads(self, num_heads: Count) -> Tensor:
        """Return the values for H heads; one head represents all; ValueError for another number of heads."""
        require_heads("bias", len(self.values), num_heads)
        return self.values.expand(num_heads, -1)

    def matrix(self, rows: slice = ALL, keys: slice = ALL) -> Tensor:
        """Return the bias of all queries and keys, or of some rows and columns, (1 or B, H, R, S)."""
        numbers_BRS = self.query_places[:, rows].unsqueeze(-1) - self.key_places[:, keys].unsqueeze(-2)
        # A look-up of embeddings sums the gradient of each number deterministically.
        return functional.embedding(numbers_BRS, self.values.T).movedim(-1, -3)


def bias_of_places(
    queries: Positions, keys: Positions, bias_of: Callable[[Tensor], Tensor], without_position: Tensor | None = None
) -> BiasOfLattice | BiasOfOffsets:
    """Return the bias of a function of offsets, as a lattice where there is one; arguments as of `BiasOfOffsets`."""
    return BiasOfLattice.between(queries, keys, bias_of, without_position) or BiasOfOffsets(
        queries, keys, bias_of, without_position
    )


def _bias_or_zeros(without_position: Tensor | None, bias: Tensor) -> Tensor:
    """Return the bias where a query is without a position, or a key, or both, (H or 1, 3)."""
    return bias.new_zeros(1, 3) if without_position is None else without_position


def _numbers(places: Places, sizes: tuple[int, ...]) -> Tensor:
    """Return for each token a number, (1 or B, T), whose differences number the offsets, counted row after row."""
    numbers = torch.zeros_like(places.grids)
    for coordinates, size in zip(places.coordinates.unbind(-1), sizes, strict=True):
        numbers = numbers * (2 * size - 1) + coordinates
    return numbers if numbers.dim() == 2 else numbers[None]


def _set_without_position(numbers: Tensor, positions: Positions, number: int) -> Tensor:
    """Return the numbers with another one where a token is without a position."""
    return numbers if positions.without_position is None else torch.where(positions.without_position, number, numbers)


BiasOfPositions = BiasOfPairs | BiasOfOffsets
"""A bias that has no shorter form than its function."""

LogitBias = BiasTable | BiasOfLattice | BiasOfPositions
"""A bias of the distance, or of the offset, in any of its forms."""
