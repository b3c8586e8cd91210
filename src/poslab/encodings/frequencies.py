"""Geometric spectrum shared by sinusoids and rotations. Dimension letters: T tokens."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from poslab.arguments import Range

Base = Annotated[float, Range(above=1)]
"""A frequency base."""

FLOAT32_END = 2**20
"""Position past which angles are made in float64: up to it, float32 rounds them by at most 0.1 radians."""


def angle_dtype(*ends: int) -> torch.dtype:
    """Return the dtype of frequencies whose angles are precise at positions up to these ends (`Positions.stop`)."""
    return torch.float64 if max(map(abs, ends)) > FLOAT32_END else torch.float32


def in_dtype(frequencies: Tensor, dtype: torch.dtype) -> Tensor:
    """Return frequencies in the dtype of `angle_dtype`; float64 is on the CPU where their device does not have it."""
    on_mps = dtype == torch.float64 and frequencies.device.type == "mps"
    return frequencies.to("cpu" if on_mps else frequencies.device, dtype)


def inverse_frequencies(
    dim: int, base: float, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return `base ** (-2 m / dim)` for `m = 0, ..., dim / 2 - 1`, in radians per position, (dim / 2,).

    With `dim=4, base=10_000` they are `[1, 0.01]`.
    """
    exponents = in_dtype(torch.arange(0, dim, 2, device=device), dtype) / dim
    # Not `base**-exponents`: its last bits differ from all other code, by 1e-4 in the angle at position 4,000.
    return 1.0 / float(base) ** exponents


def angles(ids: Tensor, inverse_frequencies: Tensor) -> Tensor:
    """Return position times frequency, (..., T, dim / 2) float32, as `products` does."""
    return products(ids.unsqueeze(-1), inverse_frequencies)


def products(coordinates: Tensor, inverse_frequencies: Tensor) -> Tensor:
    """Return the angles of coordinates (..., 1 or N) at frequencies (N,), in float32 on the device of the coordinates.

    Frequencies of float64 (`angle_dtype`) give the angle without whole turns, to 3e-7 radians at any position below
    2^30; frequencies of float32 give the product in float32, whose error at position p is up to 1e-7 p. Elementwise on
    purpose: a matrix product may run in TF32 or bfloat16, which lose positions past 2,048 and 256.
    """
    if inverse_frequencies.dtype != torch.float64:
        return coordinates.to(torch.float32) * inverse_frequencies
    angle = (coordinates.to(inverse_frequencies) * inverse_frequencies).remainder(2 * math.pi)
    return angle.to(coordinates.device, torch.float32)
