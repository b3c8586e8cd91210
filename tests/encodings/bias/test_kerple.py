import math

import pytest
import torch

from poslab.encodings.bias.kerple import KerpleLog, KerplePower
from tests.encodings.agreement import assert_bias

BOTH = pytest.mark.parametrize("kerple", [KerpleLog, KerplePower])


def rates(encoding, raw_r1, raw_r2):
    """r1 and r2 of each head in the docstring's words, float64."""
    r1 = 0.01 + torch.log(1 + torch.exp(raw_r1))
    if encoding is KerpleLog:
        return r1, 0.01 + torch.log(1 + torch.exp(raw_r2))
    return r1, 0.01 + 1.99 / (1 + torch.exp(-raw_r2))


@BOTH
@pytest.mark.parametrize("num_queries", [1, 3, 9])
def test_bias_and_gradients_are_those_of_the_formula(kerple, num_queries):
    ours = kerple(3)

    def formula(distance):
        r1, r2 = rates(kerple, ours.raw_r1.double(), ours.raw_r2.double())
        if kerple is KerpleLog:
            return -r1 * torch.log(1 + r2 * abs(distance))
        return -r1 * torch.exp(r2 * math.log(abs(distance))) if distance else 0 * r1  # 0 ** r2 is 0

    assert_bias(ours, formula, num_queries, 9)


@BOTH
def test_distance_0_has_no_bias_and_a_finite_gradient(kerple):
    ours = kerple(4)
    at_0 = ours.bias_at(torch.zeros(3, dtype=torch.int64))
    assert (at_0 == 0).all()
    at_0.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in ours.parameters())


@BOTH
@pytest.mark.parametrize("raw", [-1_000.0, -20.0, 0.0, 20.0])
def test_rates_stay_in_the_ranges_of_the_authors_code(kerple, raw):
    ours = kerple(2)
    for parameter in ours.parameters():
        torch.nn.init.constant_(parameter, raw)
    if kerple is KerpleLog:
        near, far = ours.bias_at(torch.tensor([1, 100])).detach()[0].tolist()
        smallest = (-0.01 * torch.tensor([1.01, 2.0]).log()).tolist()  # r1 and r2 at 0.01
        assert near <= smallest[0] + 1e-8 and far <= smallest[1] + 1e-8
    else:
        # The bias at 1 is -r1, and at 2 it is 2 ** r2 times that.
        one, two = ours.bias_at(torch.tensor([1, 2])).detach().double()[0]
        assert -one >= 0.01 - 1e-8
        assert 0.01 - 1e-6 <= torch.log2(two / one) <= 2 + 1e-6


@BOTH
def test_rates_start_uniform_as_in_the_authors_code(kerple):
    ours = kerple(4_000)
    first, second = (2.0, 1.0) if kerple is KerpleLog else (1.0, 2.0)
    raws = (ours.raw_r1.detach().double(), ours.raw_r2.detach().double())
    for rate, high in zip(rates(kerple, *raws), (first, second), strict=True):
        assert 0.01 <= rate.min() < 0.03 and high - 0.03 < rate.max() <= high
        assert rate.mean() == pytest.approx(high / 2, rel=0.03)
        assert rate.std() == pytest.approx(high / 12**0.5, rel=0.03)


def test_power_1_is_alibi():
    ours = KerplePower(1)
    torch.nn.init.constant_(ours.raw_r2, float(torch.tensor(0.99 / 1.99).logit()))
    at_distances = ours.bias_at(torch.arange(5)).detach()[0]
    torch.testing.assert_close(at_distances, at_distances[1] * torch.arange(5))
