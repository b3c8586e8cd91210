"""Who sees whom, said twice: as the library's values, and as a plain predicate that a double loop can ask.

With queries, keys and values for these scenarios, and what attention makes of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from poslab.attention import Visibility, attend
from poslab.encodings import DistanceBias, PositionalEncoding, Positions

BATCH, LENGTH = 2, 12
HEADS, GROUPS, HEAD_DIM = 4, 2, 8
SEGMENTS = torch.tensor([[0] * 5 + [1] * 7, [3] * 9 + [1] * 2 + [4]])
LEFT_PADDED = torch.arange(LENGTH) >= torch.tensor([[4], [0]])
RIGHT_PADDED = torch.arange(LENGTH) < torch.tensor([[12], [7]])


@dataclass(frozen=True)
class Scenario:
    """Queries that stand at the last T of S tokens.

    Args:
        queries, keys: their positions.
        visibility: the rules as the library takes them.
        sees: whether, in row b, the token stored at i sees the one stored at j, both counted from the first key.
    """

    queries: Positions
    keys: Positions
    visibility: Visibility
    sees: Callable[[int, int, int], bool]

    def visible(self) -> torch.Tensor:
        """(B, T, S) bool, asked one by one."""
        num_queries, num_keys = self.queries.length, self.keys.length
        rows = range(num_keys - num_queries, num_keys)
        return torch.tensor(
            [[[self.sees(b, i, j) for j in range(num_keys)] for i in rows] for b in range(BATCH)], dtype=torch.bool
        )


def last(positions: Positions, count: int) -> Positions:
    segments = None if positions.segments is None else positions.segments[:, -count:]
    return Positions(positions.ids[..., -count:], positions.stop, positions.contiguous, segments)


WHOLE = Positions.range(LENGTH)
PACKED = Positions.packed(SEGMENTS)
LEFT = Positions.padded(LEFT_PADDED)
RIGHT = Positions.padded(RIGHT_PADDED)
SCATTERED = Positions(torch.tensor([[3, 1, 4, 15, 9, 2, 6, 5, 35, 8, 97, 0]] * BATCH) + torch.tensor([[0], [7]]), 105)
REAL = Positions(torch.arange(LENGTH) * 0.7 + 0.1, LENGTH)

SCENARIOS = {
    "causal": Scenario(WHOLE, WHOLE, Visibility(), lambda b, i, j: j <= i),
    "window": Scenario(WHOLE, WHOLE, Visibility(window=4), lambda b, i, j: i - 4 < j <= i),
    "packed": Scenario(
        PACKED,
        PACKED,
        Visibility.between(PACKED, PACKED),
        lambda b, i, j: j <= i and bool(SEGMENTS[b, i] == SEGMENTS[b, j]),
    ),
    "left-padded": Scenario(
        LEFT, LEFT, Visibility(real_keys=LEFT_PADDED), lambda b, i, j: j <= i and bool(LEFT_PADDED[b, j])
    ),
    "right-padded": Scenario(
        RIGHT, RIGHT, Visibility(real_keys=RIGHT_PADDED), lambda b, i, j: j <= i and bool(RIGHT_PADDED[b, j])
    ),
    "far from 0": Scenario(
        Positions.range(LENGTH, 1_000), Positions.range(LENGTH, 1_000), Visibility(), lambda b, i, j: j <= i
    ),
    "one query after a cache": Scenario(last(WHOLE, 1), WHOLE, Visibility(), lambda b, i, j: j <= i),
    "three queries after a cache": Scenario(last(WHOLE, 3), WHOLE, Visibility(), lambda b, i, j: j <= i),
    "three after a padded cache in a window": Scenario(
        last(LEFT, 3),
        LEFT,
        Visibility(window=5, real_keys=LEFT_PADDED),
        lambda b, i, j: i - 5 < j <= i and bool(LEFT_PADDED[b, j]),
    ),
    "three after packed documents": Scenario(
        last(PACKED, 3),
        PACKED,
        Visibility.between(last(PACKED, 3), PACKED),
        lambda b, i, j: j <= i and bool(SEGMENTS[b, i] == SEGMENTS[b, j]),
    ),
    "both ways": Scenario(WHOLE, WHOLE, Visibility(causal=False), lambda b, i, j: True),
    "both ways in a window": Scenario(WHOLE, WHOLE, Visibility(causal=False, window=3), lambda b, i, j: abs(i - j) < 3),
    "both ways, padded": Scenario(
        RIGHT, RIGHT, Visibility(causal=False, real_keys=RIGHT_PADDED), lambda b, i, j: bool(RIGHT_PADDED[b, j])
    ),
    "scattered positions": Scenario(SCATTERED, SCATTERED, Visibility(), lambda b, i, j: j <= i),
    "real positions": Scenario(REAL, REAL, Visibility(), lambda b, i, j: j <= i),
}


def inputs(num_queries: int, num_keys: int, width: int = HEAD_DIM, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Queries, keys and values that take gradients."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(HEADS, num_queries), (GROUPS, num_keys), (GROUPS, num_keys)]
    made = [torch.randn(BATCH, *shape, width, generator=generator) for shape in shapes]
    return [x.to(dtype).requires_grad_() for x in made]


def attended(instance: PositionalEncoding, scenario: Scenario, q: Tensor, k: Tensor, v: Tensor, route="auto") -> Tensor:
    tables = instance.prepare(scenario.queries, scenario.keys)
    return attend(q, k, v, instance, tables, scenario.visibility, route)


@torch.no_grad()
def by_definition(
    instance: PositionalEncoding,
    scenario: Scenario,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    factor: Callable[[int, int], float] = lambda head, count: 1.0,
    sinks: Sequence[float] = (),
) -> Tensor:
    """Attention one query and one key at a time, in float64; nothing where nothing is seen.

    The factor of the scaled logits is that of a head and of the number of keys that a query sees. A sink is one more
    logit of each head, without a value.
    """
    tables = instance.prepare(scenario.queries, scenario.keys)
    q, k = instance.rotate_query(q, tables).double(), instance.rotate_key(k, tables).double()
    query_ids, key_ids = (positions.ids.expand(BATCH, -1) for positions in (scenario.queries, scenario.keys))
    visible = scenario.visible()
    y = torch.zeros(q.shape, dtype=torch.float64)
    for b in range(BATCH):
        for i in range(q.shape[2]):
            seen = [j for j in range(k.shape[2]) if visible[b, i, j]]
            for h in range(HEADS if seen else 0):
                group = h * k.shape[1] // HEADS
                logits = [factor(h, len(seen)) * (q[b, h, i] @ k[b, group, j]) / math.sqrt(HEAD_DIM) for j in seen]
                if isinstance(instance, DistanceBias):
                    bias = instance.bias_at(query_ids[b, i] - key_ids[b, seen])[h].double()
                    logits = [logit + bias[n] for n, logit in enumerate(logits)]
                if sinks:
                    logits = [*logits, torch.tensor(sinks[h], dtype=torch.float64)]
                weights = torch.stack(logits).softmax(0)[: len(seen)]
                y[b, h, i] = sum(weight * v[b, group, j].double() for weight, j in zip(weights, seen, strict=True))
    return y.float()


def output_and_gradients(instance: PositionalEncoding, scenario: Scenario, route="auto") -> list[Tensor | None]:
    """The output, and the gradient of each input and parameter that has one."""
    q, k, v = inputs(scenario.queries.length, scenario.keys.length)
    y = attended(instance, scenario, q, k, v, route)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    sources = [q, k, v, *instance.parameters()]
    return [y, *torch.autograd.grad((y * weight).sum(), sources, allow_unused=True)]


def assert_as_dense(instance: PositionalEncoding, scenario: Scenario, route="auto") -> None:
    """A route gives the output and gradients of the definition."""
    ours, exact = (output_and_gradients(instance, scenario, one) for one in (route, "dense"))
    torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-5)
