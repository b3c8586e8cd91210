import math

import pytest
import torch

from poslab.encodings import Positions
from poslab.encodings.bias.sandwich import Sandwich


def bias(sandwich: Sandwich, queries: Positions, keys: Positions) -> torch.Tensor:
    return sandwich.bias(sandwich.prepare(queries, keys)).matrix()


def product(one: int, other: int, dim: int, base: float) -> float:
    """Of the sinusoidal encodings of two positions."""

    def encoding(position: int) -> list[float]:
        angles = [position * base ** (-2 * m / dim) for m in range(1, dim // 2 + 1)]
        return [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]

    return sum(a * b for a, b in zip(encoding(one), encoding(other), strict=True))


@pytest.mark.parametrize(("num_heads", "dim", "base"), [(1, 2, 10_000.0), (3, 8, 100.0), (8, 128, 10_000.0)])
@pytest.mark.parametrize("num_queries", [1, 12])
def test_bias_is_the_product_of_two_sinusoidal_encodings(num_heads, dim, base, num_queries):
    queries = Positions.range(num_queries, 12 - num_queries)
    ours = bias(Sandwich(num_heads, dim, base), queries, Positions.range(12))[0]
    for head in range(num_heads):
        for row in range(num_queries):
            for j in range(12):
                similarity = product(12 - num_queries + row, j, dim, base)
                expected = (similarity - dim / 2) / (8 * (head + 1) / num_heads)
                assert float(ours[head, row, j]) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_bias_of_scattered_positions_follows_their_difference():
    ids = torch.tensor([[0, 5, 2], [100, 7, 7]])
    ours = bias(Sandwich(2, 8), Positions(ids, 101), Positions(ids, 101))
    for row in range(2):
        for i in range(3):
            for j in range(3):
                similarity = product(int(ids[row, i]), int(ids[row, j]), 8, 10_000.0)
                for head in range(2):
                    expected = (similarity - 4) / (4 * (head + 1))
                    assert float(ours[row, head, i, j]) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_distance_0_has_no_bias_and_the_first_head_the_strongest():
    ours = Sandwich(4).bias_at(torch.tensor([0, 50]))
    assert (ours[:, 0] == 0).all()
    torch.testing.assert_close(ours[0, 1] / ours[:, 1], torch.tensor([1.0, 2.0, 3.0, 4.0]))
