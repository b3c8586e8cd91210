"""Functions of each token, by the operators of `rows.cpp` where they are in use, else by PyTorch.

Dimension letters: B batch, H heads, T tokens, D head dim, R rows, M numbers of a row, F hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable
from torch.nn import functional

from poslab.compiled import library


class RMSNorm(nn.RMSNorm):
    """PyTorch's RMSNorm, in one pass over memory where the operators are in use."""

    def forward(self, x: Tensor) -> Tensor:
        fits = self.weight is not None and self.weight.shape == x.shape[-1:]
        if not (fits and x.dtype == self.weight.dtype == torch.float32 and _serves(x)):
            return super().forward(x)
        eps = torch.finfo(torch.float32).eps if self.eps is None else self.eps
        normed: Tensor = _Normalise.apply(x, self.weight, eps)
        return normed


def gated(gate_up: Tensor) -> Tensor:
    """Return `silu(gate) * up` of the halves of the last dimension, (..., F) of (..., 2F)."""
    if _serves(gate_up) and gate_up.shape[-1] % 2 == 0:
        product: Tensor = _Gate.apply(gate_up)
        return product
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate) * up


def rotated(x_BHTD: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor | None:
    """Return x with pairs of channels rotated, without a gradient; None where the operators do not support it.

    Args:
        x_BHTD: queries or keys; the first channels are pairs (m, m + P), or (2m, 2m + 1).
        cos, sin: of the P pairs, (T, P) or (1 or B, 1 or H, T, P), float32.
        interleaved: True for pairs of neighbours.
    """
    tables = (cos, sin)
    fits = x_BHTD.dim() == 4 and x_BHTD.stride(-1) == 1 and 2 * cos.shape[-1] <= x_BHTD.shape[-1]
    if not (fits and _serves(x_BHTD)):
        return None
    shape = (*(1,) * (4 - cos.dim()), *cos.shape)
    fits = all(n in (1, m) for n, m in zip(shape[:2], x_BHTD.shape[:2], strict=True)) and shape[2] == x_BHTD.shape[2]
    if not fits or any(x.dtype != torch.float32 or x.shape != cos.shape or x.stride(-1) != 1 for x in tables):
        return None
    y: Tensor = torch.ops.poslab_kernel.rotate(x_BHTD, cos.view(shape), sin.view(shape), interleaved)
    return y


def _serves(x: Tensor) -> bool:
    """Return True if the operators are in use for x, and nothing reads this code but the computation itself."""
    is_traced = (
        type(x) not in (Tensor, nn.Parameter)  # such as one of several devices, or without numbers
        or torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or forward_ad._current_level >= 0
    )
    return not is_traced and library.serves(x) and x.numel() > 0


class _Normalise(torch.autograd.Function):
    """RMSNorm of the last dimension."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_M: Tensor, eps: float) -> Tensor:
        y: Tensor
        y, factors_R = torch.ops.poslab_kernel.normalise(x.contiguous(), weight_M.contiguous(), eps)
        ctx.save_for_backward(x, weight_M, factors_R)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        *inputs, factors_R = ctx.saved_tensors
        operands = (x.contiguous() for x in (gradient, *inputs))
        of_x, of_weight = torch.ops.poslab_kernel.normalise_backward(*operands, factors_R)
        return of_x, of_weight, None


class _Gate(torch.autograd.Function):
    """`silu(gate) * up` of the halves of the last dimension."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        product: Tensor = torch.ops.poslab_kernel.gate(gate_up.contiguous())
        return product

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        of_both: Tensor = torch.ops.poslab_kernel.gate_backward(gradient.contiguous(), gate_up.contiguous())
        return of_both
