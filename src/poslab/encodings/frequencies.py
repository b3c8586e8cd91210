"""The geometric spectrum that sinusoids and rotations share."""

from __future__ import annotations

import torch
from torch import Tensor


def inverse_frequencies(dim: int, base: float, device: torch.device | None = None) -> Tensor:
    """`base ** (-2 m / dim)` for `m = 0, ..., dim / 2 - 1`, in radians per position, (dim / 2,) float32.

    With `dim=4, base=10_000` they are `[1, 0.01]`.
    """
    exponents = torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim
    # Not `base**-exponents`: its last bits differ from everyone else's, and position 4,000 turns them into 1e-4.
    return 1.0 / base**exponents


def angles(ids: Tensor, inverse_frequencies: Tensor) -> Tensor:
    """Position times frequency, (..., T, dim / 2) float32.

    Elementwise on purpose: a matrix product could run in TF32 or bfloat16, which lose positions past 256 and 2,048.
    """
    return ids.to(torch.float32).unsqueeze(-1) * inverse_frequencies


def check_base(base: float) -> None:
    """Raises ValueError unless `base` is a finite number above 1."""
    if not 1 < base < float("inf"):
        raise ValueError(f"base must be a number greater than 1, got {base}")
