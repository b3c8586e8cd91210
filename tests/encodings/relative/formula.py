"""What the tests of this folder share: attention under an encoding, and what a loop makes of its logits."""

import torch
from torch import Tensor

from poslab.attention import Visibility
from poslab.attention.attend import attend
from poslab.encodings import PositionalEncoding, Positions


def inputs(heads: int, queries: int, keys: int, dim: int, seed: int = 0) -> list[Tensor]:
    """Random queries (2, H, T, D), keys and values (2, H, S, D) that record gradients."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, heads, queries, dim), (2, heads, keys, dim), (2, heads, keys, dim)]
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def attended(
    encoding: PositionalEncoding, q: Tensor, k: Tensor, v: Tensor, queries: Positions, keys: Positions, causal: bool
) -> Tensor:
    """The output of attention under an encoding, (B, H, T, D)."""
    return attend(q, k, v, encoding, encoding.prepare(queries, keys), Visibility(causal))


def softmax_rows(logits: Tensor, causal: bool) -> Tensor:
    """Weights from (..., T, S) logits; the last query stands at the last key."""
    queries, keys = logits.shape[-2:]
    if causal:
        hidden = torch.ones(queries, keys, dtype=torch.bool).triu(keys - queries + 1)
        logits = logits.masked_fill(hidden, float("-inf"))
    return logits.softmax(-1)


def assert_same_output_and_gradients(ours: Tensor, expected: Tensor, sources: list[Tensor], tolerance: float) -> None:
    """Of the output, and of what flows back to the sources under the same random weights."""
    torch.testing.assert_close(ours, expected.to(ours.dtype), rtol=tolerance, atol=tolerance)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(9))
    actual = torch.autograd.grad((ours * weight).sum(), sources, retain_graph=True)
    wanted = torch.autograd.grad((expected * weight.to(expected.dtype)).sum(), sources, retain_graph=True)
    for one, other in zip(actual, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


PLACES = {
    "whole": (Positions.range(9), Positions.range(9)),
    "cached": (Positions.range(4, 5), Positions.range(9)),
    "one": (Positions.range(1, 8), Positions.range(9)),
    "elsewhere": (Positions.range(4, 1), Positions.range(9)),
    "scattered": (
        Positions(torch.tensor([[0, 3, 4, 9, 11, 12, 20, 31, 40], [1, 2, 3, 4, 15, 16, 17, 30, 60]]), 61),
        Positions(torch.tensor([[0, 3, 4, 9, 11, 12, 20, 31, 40], [1, 2, 3, 4, 15, 16, 17, 30, 60]]), 61),
    ),
    "real": (Positions(torch.arange(4, 9) * 0.7, 9), Positions(torch.arange(9) * 0.7, 9)),
}
"""Positions of queries and keys that every encoding of this folder is compared at."""


def ids_of(positions: Positions) -> Tensor:
    """The ids of both rows, (2, T)."""
    return positions.ids.expand(2, -1)
