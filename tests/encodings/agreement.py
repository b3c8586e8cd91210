"""Two ways to one output agree, and so do the gradients that flow back through them."""

from __future__ import annotations

import torch
from torch import Tensor

D_MODEL, HEADS, KV_HEADS, HEAD_DIM = 24, 4, 2, 8
"""Sizes of the `attention_tensors`."""


def assert_same(
    ours: Tensor,
    expected: Tensor,
    sources: list[Tensor],
    expected_sources: list[Tensor] | None = None,
    tolerance: float = 1e-5,
) -> None:
    """Two outputs, and what flows back under the same random weights, to sources that may be others of the second."""
    torch.testing.assert_close(ours, expected.to(ours.dtype), rtol=tolerance, atol=tolerance)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(9), dtype=ours.dtype)
    actual = torch.autograd.grad((ours * weight).sum(), sources, retain_graph=True)
    wanted = torch.autograd.grad((expected * weight).sum(), expected_sources or sources, retain_graph=True)
    torch.testing.assert_close(actual, wanted, rtol=tolerance, atol=tolerance)


def tensors(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Random numbers of these shapes, always the same, that record gradients."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def attention_tensors(length: int) -> list[Tensor]:
    """Queries, keys and values of two sequences, and the inputs of their layer."""
    key = (2, KV_HEADS, length, HEAD_DIM)
    return tensors((2, HEADS, length, HEAD_DIM), key, key, (2, length, D_MODEL))
