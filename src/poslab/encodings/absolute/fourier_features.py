"""Fourier features of coordinates on several axes. Letters: B batch, T tokens, A axes, K bands, M model dim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from poslab.arguments import NOT_HUGE, Count, Range
from poslab.encodings.base import PositionalEncoding
from poslab.encodings.numerics import float32_linear
from poslab.encodings.positions import Positions
from poslab.encodings.tokens import Tokens

Bands = Annotated[int, Range(at_least=2), NOT_HUGE]
"""Number of frequencies of an axis."""


class FourierFeatures(PositionalEncoding):
    """Fourier features of Perceiver: sines and cosines of the coordinates in the image, projected to the embeddings.

        x_t = embedding_t + W [p, sin(pi f p), cos(pi f p)],  p_a = 2 i_a / (n_a - 1) - 1 in [-1, 1]

    for cell i_a of n_a on each axis a, and frequencies f_ak from 1 to G_a / 2 in K even steps.

    Use it when a coordinate should mean the same share of every image, whatever its size, as in Perceiver.

    Args:
        d_model: width M.
        grid: number of cells G on each axis of the grid of training, half of which is the highest frequency (paper:
            [224, 224]; each at least 2).
        num_bands: K (paper: 64; at least 2).

    Parameters: `projection.weight` (M, A (2K + 1)), once for the whole model; as PyTorch's linear layers begin.

    Causal and bidirectional, for real coordinates too. An image of another size has other steps between its cells, and
    corners that are the same. A text has no size: it is read as the beginning of one of G tokens, on every axis. A
    token without a position gets nothing. Costs A (2K + 1) M products per token, once before the first layer.

    Traps: bands are even here and geometric in `Sinusoidal`, so that most of them rotate fast. Perceiver puts features
    next to the inputs of a linear layer, which is the same as adding their projection.

    Source: Jaegle et al., "Perceiver: General Perception with Iterative Attention" (ICML 2021), section 3.2.
    """

    relative = False
    fits_grids = True

    def __init__(
        self,
        d_model: Count,
        grid: Sequence[Annotated[int, Range(at_least=2), NOT_HUGE]] = (14, 14),
        num_bands: Bands = 64,
    ) -> None:
        super().__init__()
        self.grid, self.num_bands = tuple(grid), num_bands
        self.reads_axes = len(grid) > 1
        self.projection = nn.Linear(len(grid) * (2 * num_bands + 1), d_model, bias=False)

    def features(self, positions: Positions) -> Tensor:
        """Return the coordinates, their sines and then their cosines, (..., T, A (2K + 1)) float32."""
        places, device = positions.places, positions.ids.device
        here = torch.tensor(self.grid, device=device)
        if places is not None:
            places.require_axes(len(self.grid), type(self).__name__)
        steps_TA = ((here if places is None else places.sizes) - 1).clamp_min(1)
        across_TA = 2 * positions.coordinates - steps_TA
        # Whole turns are removed before the angle is made, exactly for whole cells: the fastest has G / 2 of them.
        last = self.num_bands - 1
        frequencies_AK = 2 * last + (here - 2).unsqueeze(-1) * torch.arange(self.num_bands, device=device)
        turn_TA1 = (4 * last * steps_TA).unsqueeze(-1)
        share = (across_TA.unsqueeze(-1) * frequencies_AK).remainder(turn_TA1).to(torch.float32) / turn_TA1
        angles = (2 * math.pi * share).flatten(-2)
        return torch.cat([across_TA.to(torch.float32) / steps_TA, angles.sin(), angles.cos()], dim=-1)

    def embed(self, x_BTM: Tensor, positions: Positions, tokens: Tokens | None = None) -> Tensor:
        added = float32_linear(self.features(positions), self.projection.weight)
        return x_BTM + positions.zero_without_position(added).to(x_BTM.dtype)
