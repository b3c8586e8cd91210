"""Linear maps of tokens whose result must not be rounded to the dtype of a model or of autocast.

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
