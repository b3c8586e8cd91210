"""The rotation that transformers gives its attention layers: cosine and sine, or complex numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ROTATION = "position_embeddings"  # argument of attention layers of transformers that has their rotation


def without_angles(rotation: Any) -> Any:
    """Return a rotation by the angle 0, in the form of another one."""
    if isinstance(rotation, Tensor):
        return torch.ones_like(rotation)
    cosine, sine = rotation
    return torch.ones_like(cosine), torch.zeros_like(sine)
