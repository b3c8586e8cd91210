"""Attention under an encoding, and the same by a loop over its logits, for the tests of this folder."""

from collections.abc import Callable

import torch
from torch import Tensor

from poslab.attention import Visibility
from poslab.attention.attend import attend
from poslab.encodings import PositionalEncoding, Positions
from tests.encodings.agreement import assert_same


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


Logit = Callable[[int, int, int], Tensor]
"""Of a row, a query and a key, the logits of all heads, (H,)."""


def looped(logit: Logit, v: Tensor, queries: Positions, keys: Positions, causal: bool) -> Tensor:
    """The output of attention whose logits are made one pair at a time."""
    pairs = [
        torch.stack([torch.stack([logit(b, i, j) for j in range(keys.length)], 1) for i in range(queries.length)], 1)
        for b in range(2)
    ]
    return softmax_rows(torch.stack(pairs), causal) @ v


SCATTERED = Positions(torch.tensor([[0, 3, 4, 9, 11, 12, 20, 31, 40], [1, 2, 3, 4, 15, 16, 17, 30, 60]]), 61)
PLACES = {
    "whole": (Positions.range(9), Positions.range(9)),
    "cached": (Positions.range(4, 5), Positions.range(9)),
    "one": (Positions.range(1, 8), Positions.range(9)),
    "elsewhere": (Positions.range(4, 1), Positions.range(9)),
    "scattered": (SCATTERED, SCATTERED),
    "real": (Positions(torch.arange(4, 9) * 0.7, 9), Positions(torch.arange(9) * 0.7, 9)),
}
"""Positions of queries and keys that every encoding of this folder is compared at."""


Formula = Callable[[PositionalEncoding, Tensor, Tensor, Tensor, Positions, Positions, bool], Tensor]
"""The output of attention under an encoding from queries, keys, values, their positions and the direction."""


def assert_formula(encoding: PositionalEncoding, formula: Formula, place: str, causal: bool) -> None:
    """Output and gradients at one of the places are those of a formula, with 3 heads of 4 dimensions."""
    queries, keys = PLACES[place]
    q, k, v = inputs(3, queries.length, keys.length, 4)
    ours, expected = (f(encoding, q, k, v, queries, keys, causal) for f in (attended, formula))
    assert_same(ours, expected, [q, k, v, *encoding.parameters()])


def ids_of(positions: Positions) -> Tensor:
    """The ids of both rows, (2, T)."""
    return positions.ids.expand(2, -1)
