"""Learned vectors for the cells of a grid, or for its rows and columns.

Dimension letters: B batch, T tokens, A axes, M model dim, G cells on an axis, N cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from poslab.arguments import Count
from poslab.encodings.base import PositionalEncoding
from poslab.encodings.places import Places
from poslab.encodings.positions import Positions
from poslab.encodings.tokens import Tokens

Interpolation = Literal["bilinear", "bicubic", "none"]
"""Kernel, which is widened where a grid is smaller than the table (antialias); none reads the rows as they are."""


def resampling_weights(coordinates_T: Tensor, sizes_T: Tensor, num_rows: int, interpolation: Interpolation) -> Tensor:
    """Return the weight of each row of a table for each token on one axis, (..., T, G) float32, of sum 1.

        weight_s = K(|s - c| / max(1, G / n)) / sum,  c = (i + 1/2) G / n - 1/2

    K is the triangle 1 - x for bilinear, and the cubic of Keys with a = -1/2 for bicubic.

    Args:
        coordinates_T: cell i of each token, integer or real; one outside its grid is as at the edge.
        sizes_T: number of cells n of its grid.
        num_rows: G.
    """
    ratio_T1 = (num_rows / sizes_T.to(torch.float32).clamp_min(1)).unsqueeze(-1)
    centre_T1 = ((coordinates_T.to(torch.float32).unsqueeze(-1) + 0.5) * ratio_T1 - 0.5).clamp(-0.5, num_rows - 0.5)
    rows_G = torch.arange(num_rows, device=centre_T1.device, dtype=torch.float32)
    x = (rows_G - centre_T1).abs() / ratio_T1.clamp_min(1)
    if interpolation == "bicubic":
        near, far = (1.5 * x - 2.5) * x**2 + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
        weight_TG = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    else:
        weight_TG = (1 - x).clamp_min(0)
    return weight_TG / weight_TG.sum(-1, keepdim=True)


class _OfCells(PositionalEncoding):
    """Base class of learned vectors that are resampled for grids of other sizes."""

    relative = False
    fits_grids = True

    def __init__(self, grid: Sequence[int], interpolation: Interpolation) -> None:
        super().__init__()
        self.grid = tuple(grid)
        self.interpolation = interpolation
        self.reads_axes = len(grid) > 1
        self.max_length = None if self.reads_axes else grid[0]

    @property
    def max_patches(self) -> int | None:
        return self.max_length if self.interpolation == "none" else None

    def at_cells(self, cells_A: tuple[Tensor, ...]) -> Tensor:
        """Return the vectors of whole cells, given on each axis, (..., T, M) float32."""
        raise NotImplementedError

    def resampled(self, weights_A: Sequence[Tensor]) -> Tensor:
        """Return the vectors under the weights (..., T, G) of the cells on each axis, (..., T, M) float32."""
        raise NotImplementedError

    def embed(self, x_BTM: Tensor, positions: Positions, tokens: Tokens | None = None) -> Tensor:
        places = positions.places
        if places is None:
            ids = self._ids(positions)
            vectors = self.at_cells(tuple(ids.clamp_max(cells - 1) for cells in self.grid))
        else:
            places.require_axes(len(self.grid), type(self).__name__)
            vectors = positions.zero_without_position(self._of_places(places))
        return x_BTM + vectors.to(x_BTM.dtype)

    def _ids(self, positions: Positions) -> Tensor:
        """Return the ids of a text, which are its cells on every axis; a grid of one axis ends it."""
        if positions.ids.is_floating_point():
            raise ValueError(
                "positions must be integers for learned positions, got real numbers: a text has no size to which a "
                "table could be resampled; choose positions that are integers, or another encoding"
            )
        if self.max_length is not None:
            described, instead = "learned positions, the cells of grid,", "train with a larger grid"
            positions.require_below(self.max_length, described, instead)
        return positions.ids

    def _of_places(self, places: Places) -> Tensor:
        if self.interpolation == "none":
            if places.stops is None:
                raise ValueError("interpolation must be bilinear or bicubic where coordinates are not cells, got none")
            if any(stop > cells for stop, cells in zip(places.stops, self.grid, strict=True)):
                raise ValueError(
                    f"grid={list(self.grid)} ends before the cells {list(places.stops)}; train with a larger grid, or "
                    "choose interpolation=bilinear"
                )
            return self.at_cells(places.coordinates.unbind(-1))
        on_axes = zip(places.coordinates.unbind(-1), places.sizes.unbind(-1), self.grid, strict=True)
        with torch.autocast(places.coordinates.device.type, enabled=False):
            return self.resampled([resampling_weights(*axis, self.interpolation) for axis in on_axes])


class LearnedGrid(_OfCells):
    """One trained vector per cell of a grid, resampled for images of any size, added to the token embeddings.

        x_t = embedding_t + sum_s w_1[s_1] ... w_A[s_A] table[s]

    The weights w_a of an axis resize the table to the grid of the token, the only thing that they depend on (see
    `resampling_weights`): images of several sizes may be in one batch, each as it would be by itself.

    Use it when patches should have learned positions, as in most vision transformers, and images may have other sizes
    than in training.

    Args:
        d_model: width M.
        grid: number of cells on each axis of the grid of training (ViT: [14, 14]; each at least 1).
        interpolation: "bilinear" as SigLIP 2, "bicubic" as timm, both with antialias; "none" reads the first cells of
            the table for a smaller grid, and ends at `grid`.

    Parameters: `table` (G_1, ..., G_A, M), once for the whole model; normal with standard deviation 0.02.

    Causal and bidirectional. Claimed to carry over to somewhat larger images, best after some training there. A text
    has no size: its tokens are at the same number on every axis, without resampling. A grid of one axis ends a text, as
    `Learned` does; on several, a token past a side is at its last cell. A token without a position has no vector.
    Costs N numbers per token and N * M products, once before the first layer.

    Traps: transformers resizes the table of ViT by a bicubic kernel with a = -3/4 and without antialias, which differs
    where images become smaller. A grid of one cell, as of a token of text among images, gets the mean of the table.

    Raises:
        ValueError: for an argument out of its range; for a position past the end of a text, or of `interpolation=none`;
            for places on other axes.

    Source: Dosovitskiy et al., "An Image Is Worth 16x16 Words" (ICLR 2021), section 3.2; per token as in SigLIP 2
    (Tschannen et al. 2025, NaFlex).
    """

    def __init__(
        self, d_model: Count, grid: Sequence[Count] = (14, 14), interpolation: Interpolation = "bilinear"
    ) -> None:
        super().__init__(grid, interpolation)
        self.table = nn.Parameter(torch.empty(*grid, d_model))
        nn.init.normal_(self.table, std=0.02)

    def at_cells(self, cells_A: tuple[Tensor, ...]) -> Tensor:
        number = torch.zeros_like(cells_A[0])
        for cell, size in zip(cells_A, self.grid, strict=True):
            number = number * size + cell
        return nn.functional.embedding(number, self._rows())

    def resampled(self, weights_A: Sequence[Tensor]) -> Tensor:
        weights_TN = weights_A[0]
        for weights_TG in weights_A[1:]:
            weights_TN = (weights_TN.unsqueeze(-1) * weights_TG.unsqueeze(-2)).flatten(-2)
        return weights_TN @ self._rows()

    def _rows(self) -> Tensor:
        """Return the table as (N, M) float32."""
        return self.table.to(torch.float32).view(math.prod(self.grid), -1)


class LearnedAxes(_OfCells):
    """One trained vector per row and one per column of a grid, whose sum is added to the token embeddings.

        x_t = embedding_t + sum_a sum_s w_a[s] table_a[s]

    with the weights of `LearnedGrid`.

    Use it when patches should have learned positions, and the grid is large: the tables of axes have G_1 + ... + G_A
    vectors, where a table of cells has their product.

    Args:
        d_model, grid: as in `LearnedGrid` (Gemma 4: 10,240 rows and columns).
        interpolation: as in `LearnedGrid` (Gemma 4: none; NaViT: none, or fractions of a side).

    Parameters: `tables` (G_a, M) for each axis, once for the whole model; normal with standard deviation 0.02.

    Causal and bidirectional. What is said of a text, of tokens without a position, and of larger images in
    `LearnedGrid` is true here. Costs one look-up per token and axis, and where it is resampled G * M products, once
    before the first layer.

    Traps: what a model learns of a row applies in every column. Gemma 4 names the column first.

    Raises:
        ValueError: as `LearnedGrid`.

    Source: Dehghani et al., "Patch n' Pack: NaViT" (NeurIPS 2023), section 2.2.
    """

    def __init__(
        self, d_model: Count, grid: Sequence[Count] = (14, 14), interpolation: Interpolation = "bilinear"
    ) -> None:
        super().__init__(grid, interpolation)
        self.tables = nn.ParameterList(torch.empty(size, d_model) for size in grid)
        for table in self.tables:
            nn.init.normal_(table, std=0.02)

    def at_cells(self, cells_A: tuple[Tensor, ...]) -> Tensor:
        looked_up = map(nn.functional.embedding, cells_A, self._rows())
        return torch.stack(list(looked_up)).sum(0)

    def resampled(self, weights_A: Sequence[Tensor]) -> Tensor:
        return torch.stack([weights @ rows for weights, rows in zip(weights_A, self._rows(), strict=True)]).sum(0)

    def _rows(self) -> list[Tensor]:
        return [table.to(torch.float32) for table in self.tables]
