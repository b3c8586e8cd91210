"""Two ways to one output agree, and so do the gradients that flow back through them."""

from __future__ import annotations

import torch
from torch import Tensor


def assert_same(
    ours: Tensor,
    expected: Tensor,
    sources: list[Tensor],
    expected_sources: list[Tensor] | None = None,
    tolerance: float = 1e-5,
) -> None:
    """Two outputs, and what flows back under the same random weights, to sources that may be others of the second.

    The second may be in float64. A source that an output does not read gets zeros.
    """
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(9), dtype=ours.dtype)
    actual, wanted = (
        [y, *torch.autograd.grad((y * weight).sum(), read, retain_graph=True, materialize_grads=True)]
        for y, read in ((ours, sources), (expected, expected_sources or sources))
    )
    torch.testing.assert_close(actual, wanted, rtol=tolerance, atol=tolerance, check_dtype=False)


def attention_inputs(length: int, heads: int, kv_heads: int, head_dim: int, d_model: int) -> list[Tensor]:
    """Queries, keys, values and hidden states of two texts."""
    shapes = [(2, heads, length, head_dim), *[(2, kv_heads, length, head_dim)] * 2, (2, length, d_model)]
    return tensors(*shapes)


def tensors(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Random numbers of these shapes, always the same, that record gradients."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]
