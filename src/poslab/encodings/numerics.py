"""Linear maps that must not be rounded, and transforms under which Python must not read numbers of tensors.

Dimension letters: B batch, H heads, T tokens, M model dim, N outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def float32_linear(x: Tensor, weight_NM: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """Return `x @ weight.T + bias`, (..., N) for x (..., M), in float32 at least, under autocast too."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        return functional.linear(x.to(dtype), weight_NM.to(dtype), None if bias_N is None else bias_N.to(dtype))


def split_heads(x_BTN: Tensor, num_heads: int) -> Tensor:
    """Return the numbers of each head, (B, H, T, N / H)."""
    return x_BTN.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def is_under_torch_func() -> bool:
    """Return True under a transform of torch.func, such as vmap."""
    return torch._C._are_functorch_transforms_active()


def is_traced() -> bool:
    """Return True under a compiler or a transform of torch.func."""
    return torch.compiler.is_compiling() or is_under_torch_func()
