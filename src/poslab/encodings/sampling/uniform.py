"""Draws of samplers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def uniform(shape: Sequence[int], limit: float, device: torch.device) -> Tensor:
    """Return uniform numbers from -limit to limit, float32."""
    return (2 * torch.rand(shape, device=device, dtype=torch.float32) - 1) * limit
