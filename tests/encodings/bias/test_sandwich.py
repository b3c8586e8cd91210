import itertools
import math

import pytest
import torch

from poslab.encodings import Positions
from poslab.encodings.bias.sandwich import Sandwich

WHOLE, SCATTERED = Positions.range(12), Positions(torch.tensor([[0, 5, 2], [100, 7, 7]]), 101)


def bias(sandwich: Sandwich, queries: Positions, keys: Positions) -> torch.Tensor:
    return sandwich.bias(sandwich.prepare(queries, keys)).matrix()


def product(one: int, other: int, dim: int, base: float) -> float:
    """Of the sinusoidal encodings of two positions."""

    def encoding(position: int) -> list[float]:
        angles = [position * base ** (-2 * m / dim) for m in range(1, dim // 2 + 1)]
        return [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]

    return sum(a * b for a, b in zip(encoding(one), encoding(other), strict=True))


@pytest.mark.parametrize(("num_heads", "dim", "base"), [(1, 2, 10_000.0), (3, 8, 100.0), (8, 128, 10_000.0)])
@pytest.mark.parametrize(("queries", "keys"), [(Positions.range(1, 11), WHOLE), (WHOLE, WHOLE), (SCATTERED, SCATTERED)])
def test_bias_is_the_product_of_two_sinusoidal_encodings(num_heads, dim, base, queries, keys):
    ours = bias(Sandwich(num_heads, dim, base), queries, keys)
    for text, of_text in enumerate(ours):
        query_ids, key_ids = (positions.ids.expand(2, -1)[text].tolist() for positions in (queries, keys))
        for head, row, j in itertools.product(*map(range, of_text.shape)):
            similarity = product(query_ids[row], key_ids[j], dim, base)
            expected = (similarity - dim / 2) / (8 * (head + 1) / num_heads)
            assert float(of_text[head, row, j]) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_distance_0_has_no_bias_and_the_first_head_the_strongest():
    ours = Sandwich(4).bias_at(torch.tensor([0, 50]))
    assert (ours[:, 0] == 0).all()
    torch.testing.assert_close(ours[0, 1] / ours[:, 1], torch.tensor([1.0, 2.0, 3.0, 4.0]))
