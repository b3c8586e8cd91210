"""Weights that resample a table of a grid for the cells of another. Dimension letters: T tokens, G rows on an axis."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

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
    weight_TG = _cubic(x) if interpolation == "bicubic" else (1 - x).clamp_min(0)
    return weight_TG / weight_TG.sum(-1, keepdim=True)


def _cubic(x: Tensor) -> Tensor:
    near, far = (1.5 * x - 2.5) * x**2 + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
