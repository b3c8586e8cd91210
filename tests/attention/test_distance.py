"""The distance route over several blocks of queries, and what PyTorch's transformations make of its operator."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from poslab.attention import Visibility, attend
from poslab.attention.distance import BLOCK, KERNEL_BLOCK, distance_attention
from poslab.encodings import DistanceBias, Positions

HEADS, HEAD_DIM = 2, 8
LENGTH = 2 * KERNEL_BLOCK + BLOCK // 2 + 3
SEGMENTS = torch.tensor([[0] * 200 + [1] * (LENGTH - 200), [0] * 400 + [1] * (LENGTH - 400)])
REAL = torch.arange(LENGTH) >= torch.tensor([[150], [0]])


class LearnedByDistance(DistanceBias):
    """A number for each head and distance."""

    def __init__(self, learns: bool = True) -> None:
        super().__init__()
        table = torch.randn(HEADS, 2 * LENGTH, generator=torch.Generator().manual_seed(1))
        self.table = torch.nn.Parameter(table, requires_grad=learns)

    def bias_at(self, distance: Tensor) -> Tensor:
        return self.table[:, distance + LENGTH]


def output_and_gradients(
    encoding: DistanceBias, visibility: Visibility, num_queries: int, route: str | None = None
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, HEADS, LENGTH, HEAD_DIM, generator=generator).requires_grad_() for _ in range(3))
    keys = Positions.range(LENGTH)
    tables = encoding.prepare(Positions.range(num_queries, LENGTH - num_queries), keys)
    y = attend(q[:, :, -num_queries:], k, v, encoding, tables, visibility, route)
    weight = torch.randn(y.shape, generator=generator)
    sources = [x for x in (q, k, v, *encoding.parameters()) if x.requires_grad]
    return [y, *torch.autograd.grad((y * weight).sum(), sources)]


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("num_queries", [LENGTH, 300, 1])
@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"causal": False},
        {"window": 100},
        {"causal": False, "window": 100},
        {"key_segments": SEGMENTS},
        {"real_keys": REAL},
        {"causal": False, "real_keys": REAL, "key_segments": SEGMENTS},
    ],
    ids=str,
)
def test_many_blocks_give_the_output_and_gradients_of_the_definition(rules, num_queries, learns):
    if "key_segments" in rules:
        rules = rules | {"query_segments": SEGMENTS[:, -num_queries:]}
    encoding, visibility = LearnedByDistance(learns), Visibility(**rules)
    expected = output_and_gradients(encoding, visibility, num_queries, "dense")
    for ours, theirs in zip(output_and_gradients(encoding, visibility, num_queries), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def operands(length: int = 40, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = [(2, HEADS, length, HEAD_DIM)] * 3
    made = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    made.append(torch.randn(HEADS, 2 * length - 1, generator=generator))
    return [x.requires_grad_() for x in made]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_an_operator_of_pytorch(dtype):
    """With a fake kernel, a gradient and a schema that are what the operator does."""
    real = torch.ones(2, 40, dtype=torch.bool)
    torch.library.opcheck(distance_attention, (*operands(dtype=dtype), 0, 40, 0.3))
    torch.library.opcheck(distance_attention, (*operands(dtype=dtype), -40, 40, 0.3, None, None, real))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_the_bias_stays_float32(dtype):
    """Queries and keys of zero leave the bias alone: rounded, neighbours at distance 4,000 would weigh the same."""
    length = 4_096
    distance = torch.arange(1 - length, length, dtype=torch.float32)
    bias = (-0.01 * distance).expand(1, -1)
    q, k = (torch.zeros(1, 1, n, 16, dtype=dtype) for n in (1, length))
    first = torch.nn.functional.one_hot(torch.arange(length) // 256, 16).to(dtype)[None, None]
    output, _ = distance_attention(q, k, first, bias[:, length - 1 :], -length, length, 1.0)
    weights = (0.01 * torch.arange(length, dtype=torch.float64)).softmax(0)
    expected = torch.zeros(16, dtype=torch.float64).index_add(0, torch.arange(length) // 256, weights)
    torch.testing.assert_close(output[0, 0, 0].double(), expected, rtol=2e-2, atol=1e-6)
