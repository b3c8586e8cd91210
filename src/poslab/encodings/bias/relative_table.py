"""A learned bias for each offset on a grid. Dimension letters: A axes, H heads, N offsets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from poslab.arguments import Count
from poslab.encodings.bias.distance_bias import OffsetBias
from poslab.encodings.offsets import BiasOfLattice, LogitBias
from poslab.encodings.positions import Positions


class RelativeTable(OffsetBias):
    """Relative position bias of Swin: one learned number per head and offset on the grid of training.

        logit(i, j) = q_i . k_j / sqrt(D) + table[i_1 - j_1, ..., i_A - j_A, h]

    On each axis of n cells the table has the offsets 1 - n to n - 1. Between two whole offsets it is linear, and past
    its ends as at its ends.

    Use it when images have the size of training images, or nearly: nothing is assumed of the bias, not even that
    near is like near.

    Args:
        num_heads: heads H.
        grid: number of cells on each axis of the grid of training (Swin: [7, 7]; each at least 1).

    Parameters, for each layer its own: `table` (N, H) with N = (2 n_1 - 1) ... (2 n_A - 1) rows, the last axis
    fastest; normal with standard deviation 0.02, cut at two of them in Swin's code (here at -2 and 2).

    Causal and bidirectional. A smaller grid reads the middle of the table, as a corner of an image would. The offsets
    of a larger one are multiplied by (2 n - 1) / (2 m - 1), on an axis of m cells: BEiT's table is so resized, by
    bilinear interpolation. Little is claimed for it: `SwinV2Bias` was made for that. A text is at the same number on
    every axis, with one bias for all distances of at least n - 1. A token without a position has no bias; `BeitBias`
    learns one. Costs N numbers per head, and their gradients; on a larger grid one number for each query and key, block
    by block.

    Trap: Swin shares the table among its windows, which are of one size.

    Source: Liu et al., "Swin Transformer" (ICCV 2021), section 3.2.
    """

    shared_by_layers = False
    fits_grids = True

    def __init__(self, num_heads: Count, grid: Sequence[Count] = (14, 14)) -> None:
        super().__init__(len(grid))
        self.grid = tuple(grid)
        self.table = nn.Parameter(torch.empty(math.prod(2 * n - 1 for n in grid), num_heads))
        nn.init.trunc_normal_(self.table, std=0.02)

    def prepare(self, query_positions: Positions, key_positions: Positions) -> LogitBias:
        queries, keys = self._within_grid(query_positions), self._within_grid(key_positions)
        lattice = None if keys is key_positions else self._of_one_grid(query_positions, key_positions)
        return lattice or super().prepare(queries, keys)

    def _within_grid(self, positions: Positions) -> Positions:
        """Return positions whose larger grids are resized to the table."""
        places = positions.places
        if places is None:
            return positions
        places.require_axes(self.num_axes, type(self).__name__)
        if all(size <= cells for size, cells in zip(places.largest, self.grid, strict=True)):
            return positions
        return replace(positions, places=places.at(places.coordinates * self._share(places.sizes)))

    def _share(self, sizes: Tensor) -> Tensor:
        """Return by what offsets are multiplied on grids of these sizes (..., A)."""
        here = sizes.new_tensor(self.grid)
        return (2 * here - 1) / (2 * torch.maximum(sizes, here) - 1)

    def _of_one_grid(self, queries: Positions, keys: Positions) -> BiasOfLattice | None:
        """Return the bias on a larger grid of one size, where offsets are few; None if tokens are on several.

        It reads the sizes, which gradients of single rows (vmap) and a compiled graph cannot.
        """
        if queries.places is None or keys.places is None or keys.places.sizes.is_meta:
            return None
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return None
        sizes_A = keys.places.sizes.new_tensor(keys.places.largest)
        for places in (queries.places, keys.places):
            same = (places.sizes == sizes_A).all(-1)
            if not bool((same if places.without_position is None else same | places.without_position).all()):
                return None
        share = self._share(sizes_A)
        return BiasOfLattice.between(
            queries, keys, lambda offset: self.bias_of(offset * share), self.bias_without_position()
        )

    def bias_of(self, offset: Tensor) -> Tensor:
        if not offset.is_floating_point():
            return self._at(offset)
        below = offset.floor()
        share = offset - below
        corners = []
        for corner in itertools.product((0, 1), repeat=self.num_axes):
            above = offset.new_tensor(corner)
            weight = torch.where(above > 0, share, 1 - share).prod(-1)
            corners.append(weight * self._at((below + above).long()))
        return torch.stack(corners).sum(0)

    def _at(self, offset: Tensor) -> Tensor:
        """Return the bias (H, ...) at whole offsets (..., A)."""
        rows = torch.zeros_like(offset[..., 0])
        for on_axis, n in zip(offset.unbind(-1), self.grid, strict=True):
            rows = rows * (2 * n - 1) + on_axis.clamp(1 - n, n - 1) + n - 1
        # A look-up of embeddings sums the gradient of each row deterministically.
        return nn.functional.embedding(rows, self.table.to(torch.float32)).movedim(-1, 0)
