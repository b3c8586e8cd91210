"""Transforms under which Python must not read numbers of tensors, nor change tensors in place."""

from __future__ import annotations

import torch


def is_under_torch_func() -> bool:
    """Return True under a transform of torch.func, such as vmap."""
    return torch._C._are_functorch_transforms_active()


def is_traced() -> bool:
    """Return True under a compiler or a transform of torch.func."""
    return torch.compiler.is_compiling() or is_under_torch_func()
