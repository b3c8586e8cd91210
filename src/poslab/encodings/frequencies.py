"""The geometric spectrum that sinusoids and rotations share."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from poslab.arguments import Range

Base = Annotated[float, Range(above=1)]
"""A frequency base."""


def inverse_frequencies(dim: int, base: float, device: torch.device | None = None) -> Tensor:
    """`base ** (-2 m / dim)` for `m = 0, ..., dim / 2 - 1`, in radians per position, (dim / 2,) float32.

    With `dim=4, base=10_000` they are `[1, 0.01]`.
    """
    exponents = torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim
    # Not `base**-exponents`: its last bits differ from everyone else's, and position 4,000 turns them into 1e-4.
    return 1.0 / float(base) ** exponents


def angles(ids: Tensor, inverse_frequencies: Tensor) -> Tensor:
    """Position times frequency, (..., T, dim / 2) float32.

    Elementwise on purpose: a matrix product could run in TF32 or bfloat16, which lose positions past 256 and 2,048.
    """
    return ids.to(torch.float32).unsqueeze(-1) * inverse_frequencies
