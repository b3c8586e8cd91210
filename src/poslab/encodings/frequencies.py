"""Geometric spectrum shared by sinusoids and rotations. Dimension letters: T tokens."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from poslab.arguments import Range

Base = Annotated[float, Range(above=1)]
"""A frequency base."""


def inverse_frequencies(dim: int, base: float, device: torch.device | None = None) -> Tensor:
    """Return `base ** (-2 m / dim)` for `m = 0, ..., dim / 2 - 1`, in radians per position, (dim / 2,) float32.

    With `dim=4, base=10_000` they are `[1, 0.01]`.
    """
    exponents = torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim
    # Not `base**-exponents`: its last bits differ from all other code, by 1e-4 in the angle at position 4,000.
    return 1.0 / float(base) ** exponents


def angles(ids: Tensor, inverse_frequencies: Tensor) -> Tensor:
    """Return position times frequency, (..., T, dim / 2) float32.

    Elementwise on purpose: a matrix product may run in TF32 or bfloat16, which lose positions past 2,048 and 256.
    """
    return ids.to(torch.float32).unsqueeze(-1) * inverse_frequencies
