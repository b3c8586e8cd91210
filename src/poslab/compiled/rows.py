"""Functions of each token, by the operators of `rows.cpp` where they are in use, else by PyTorch.

Dimension letters: B batch, H heads, T tokens, D head dim, R rows, M numbers of a row, F hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from poslab.compiled import library


class RMSNorm(nn.RMSNorm):
    """PyTorch's RMSNorm, in one pass over memory where the operators are in use."""

    def forward(self, x: Tensor) -> Tensor:
        is_plain = self.weight is not None and len(self.normalized_shape) == 1
        if not (is_plain and x.dtype == self.weight.dtype == torch.float32 and _serves(x)):
            return super().forward(x)
        eps = torch.finfo(torch.float32).eps if self.eps is None else self.eps
        normed: Tensor = _Normalise.apply(x, self.weight, eps)
        return normed


def gated(gate_up: Tensor) -> Tensor:
    """Return `silu(gate) * up` of the halves of the last dimension, (..., F) of (..., 2F)."""
    if _serves(gate_up):
        product: Tensor = _Gate.apply(gate_up)
        return product
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate) * up


def rotated(x_BHTD: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor | None:
    """Return x with pairs of channels turned, without a gradient; None where the operators do not serve it.

    Args:
        x_BHTD: queries or keys; the first channels are pairs (m, m + P), or (2m, 2m + 1).
        cos, sin: of the P pairs, (T, P) or (1 or B, 1 or H, T, P), float32.
        interleaved: True for pairs of neighbours.
    """
    tables = (cos, sin)
    if x_BHTD.dim() != 4 or x_BHTD.stride(-1) != 1 or not _serves(x_BHTD):
        return None
    shape = (*(1,) * (4 - cos.dim()), *cos.shape)
    fits = all(n in (1, m) for n, m in zip(shape[:2], x_BHTD.shape[:2], strict=True)) and shape[2] == x_BHTD.shape[2]
    if not fits or any(x.dtype != torch.float32 or x.shape != cos.shape or x.stride(-1) != 1 for x in tables):
        return None
    y: Tensor = torch.ops.poslab_kernel.rotate(x_BHTD, cos.view(shape), sin.view(shape), interleaved)
    return y


def _serves(x: Tensor) -> bool:
    """Return True if the operators are in use for x, and neither a compiler nor a transform reads this code."""
    is_traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    return library.serves(x) and x.numel() > 0 and not is_traced


class _Normalise(torch.autograd.Function):
    """RMSNorm of the last dimension."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_M: Tensor, eps: float) -> Tensor:
        x_RM = x.reshape(-1, x.shape[-1]).contiguous()
        y_RM, factors_R = torch.ops.poslab_kernel.normalise(x_RM, weight_M.contiguous(), eps)
        ctx.save_for_backward(x_RM, weight_M, factors_R)
        return y_RM.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x_RM, weight_M, factors_R = ctx.saved_tensors
        gradient_RM = gradient.reshape(x_RM.shape).contiguous()
        of_x, of_weight = torch.ops.poslab_kernel.normalise_backward(
            gradient_RM, x_RM, weight_M.contiguous(), factors_R
        )
        return of_x.view(gradient.shape), of_weight, None


class _Gate(torch.autograd.Function):
    """`silu(gate) * up` of the halves of the last dimension."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        both_RM = gate_up.reshape(-1, gate_up.shape[-1]).contiguous()
        ctx.save_for_backward(both_RM)
        product: Tensor = torch.ops.poslab_kernel.gate(both_RM)
        return product.view(*gate_up.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (both_RM,) = ctx.saved_tensors
        gradient_RF = gradient.reshape(len(both_RM), -1).contiguous()
        of_both: Tensor = torch.ops.poslab_kernel.gate_backward(gradient_RF, both_RM)
        return of_both.view(*gradient.shape[:-1], -1)
