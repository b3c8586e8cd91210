"""GRAPE-A against a double loop over its formula in float64, and against ALiBi where content says nothing."""

from __future__ import annotations

import math

import pytest
import torch

from poslab.attention import Visibility, attend
from poslab.encodings import Alibi, GrapeA, Positions
from poslab.encodings.base import QueryRows
from tests.encodings.agreement import default_dtype

H, D, S = 3, 6, 9


def made(**arguments) -> GrapeA:
    torch.manual_seed(0)
    encoding = GrapeA(H, D, **arguments).double()
    encoding.strength.data += torch.tensor([-1.0, 0.0, 0.5])
    return encoding


def queries_and_keys():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 2, H, S, D, generator=generator, dtype=torch.float64).unbind()


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize("gates", ["both", "query", "key"])
def test_logits_are_those_of_a_double_loop_over_the_formula(gates):
    encoding, (q, k) = made(gates=gates, max_exponent=5.0), queries_and_keys()
    queries, keys = Positions.range(4, 70), Positions(torch.arange(S) * 3 + 50, 80)
    q = q[:, :, -4:]
    rows = QueryRows(encoding.prepare(queries, keys), slice(1, 4), 0, D**-0.5, keys=slice(0, 8))
    ours = encoding.logits(q[:, :, 1:], k[:, :, :8], rows)
    slopes = [2**-2.5, 2**-5.0, 2**-1.25]  # as ALiBi's of 3 heads
    for h in range(H):
        height = softplus(float(encoding.strength[h])) * slopes[h]
        for i in range(3):
            for j in range(8):
                apart, gate = 71 + i - (50 + 3 * j), 0.0
                for given, direction in (
                    (q[1, h, 1 + i], encoding.query_direction),
                    (k[1, h, j], encoding.key_direction),
                ):
                    if direction is not None:
                        length = math.sqrt(sum(float(x) ** 2 for x in direction[h]))
                        product = sum(float(x) * float(y) for x, y in zip(direction[h], given, strict=True))
                        gate += softplus(product / length / math.sqrt(D))
                plain = sum(float(x) * float(y) for x, y in zip(q[1, h, 1 + i], k[1, h, j], strict=True)) / math.sqrt(D)
                assert ours[1, h, i, j].item() == pytest.approx(plain - apart * height * gate, abs=2e-5)


def test_where_directions_meet_nothing_it_is_alibi():
    """softplus(0) = ln 2, in the query and in the key."""
    encoding, (q, k) = GrapeA(H, D).double(), queries_and_keys()
    q[..., D // 2 :] = k[..., D // 2 :] = 0.0
    for direction in (encoding.query_direction, encoding.key_direction):
        direction.data[..., : D // 2] = 0.0
    encoding.strength.data[:] = math.log(math.expm1(1 / (2 * math.log(2))))
    positions, alibi = Positions.range(S), Alibi(H)
    ours, theirs = (
        attend(q, k, k, x, x.prepare(positions, positions), Visibility(), "dense") for x in (encoding, alibi)
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_its_slopes_are_float32_where_bfloat16_is_the_default_of_pytorch():
    grape = GrapeA(num_heads=3, head_dim=8, max_exponent=7.3)
    expected = grape.learned()["slopes"]
    with default_dtype(torch.bfloat16):
        assert torch.equal(grape.learned()["slopes"], expected)


def test_it_begins_with_the_slopes_of_alibi_and_reports_what_it_learned():
    encoding = GrapeA(H, D)
    assert encoding.learned()["slopes"].tolist() == pytest.approx([2.0**-x for x in encoding.exponents])
    for name in ("query_direction", "key_direction"):
        assert encoding.learned()[name].norm(dim=-1).tolist() == pytest.approx([1.0] * H)
    assert list(made(gates="key").learned()) == ["slopes", "key_direction"]
    with pytest.raises(ValueError, match=r"^gates must.*key, got 'none'$"):
        GrapeA(H, D, gates="none")
