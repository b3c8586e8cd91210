"""Hashes of tensors, by which a run knows batches and weights again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

MOST = 4096
"""Numbers of each tensor that are hashed."""


def hash_of(tensors: Iterable[Tensor]) -> str:
    """Return a hash of the shapes, the dtypes and the first numbers of tensors."""
    found = hashlib.sha256()
    for tensor in tensors:
        flat = tensor.detach().flatten()[:MOST].cpu()
        found.update(str((tuple(tensor.shape), tensor.dtype)).encode())
        found.update(flat.to(torch.float64 if flat.is_floating_point() else torch.int64).numpy().tobytes())
    return found.hexdigest()[:16]
