"""Two ways to one output agree, and so do the gradients that flow back through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from poslab.encodings import DistanceBias, Positions

D_MODEL, HEADS, KV_HEADS, HEAD_DIM = 24, 4, 2, 8
"""Sizes of the `attention_tensors`."""


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


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """PyTorch makes numbers in another dtype, as in a run in bf16-true or while transformers loads a model."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def bias_matrix(encoding: DistanceBias, queries: Positions, keys: Positions) -> Tensor:
    """The whole bias of a text, (H, T, S)."""
    return encoding.bias(encoding.prepare(queries, keys)).matrix()[0]


def assert_bias(encoding: DistanceBias, formula: Callable[[int], Tensor], num_queries: int, num_keys: int) -> None:
    """The bias of the last of some tokens, and its gradients, are those of a formula: for a distance, (H,)."""
    queries = Positions.range(num_queries, num_keys - num_queries)
    rows = [torch.stack([formula(i - j) for j in range(num_keys)], dim=1) for i in queries.ids.tolist()]
    ours = bias_matrix(encoding, queries, Positions.range(num_keys))
    assert_same(ours, torch.stack(rows, dim=1), list(encoding.parameters()))


def tensors(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Random numbers of these shapes, always the same, that record gradients."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def attention_tensors(length: int) -> list[Tensor]:
    """Queries, keys and values of two sequences, and the inputs of their layer."""
    key = (2, KV_HEADS, length, HEAD_DIM)
    return tensors((2, HEADS, length, HEAD_DIM), key, key, (2, length, D_MODEL))
