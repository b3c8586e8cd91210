import numpy as np
import pytest
from scipy.special import stdtrit
from statsmodels.stats.power import TTestPower

from poslab.experiments.statistics.crossed import Estimate, estimate, further_seeds, smallest_detectable


def of_seeds(seeds: int):
    rng = np.random.default_rng(seeds)
    return estimate([rng.normal(size=(seeds, 1))])


@pytest.mark.parametrize("seeds", [3, 5, 10, 30])
def test_the_smallest_detectable_difference_is_that_of_statsmodels(seeds):
    one = of_seeds(seeds)
    spread = float(one.error) * seeds**0.5
    expected = TTestPower().solve_power(nobs=seeds, alpha=0.05, power=0.8) * spread
    assert smallest_detectable(one) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("margin", [0.2, 0.5, 0.9])
def test_further_seeds_are_those_of_statsmodels(margin):
    one = of_seeds(5)
    spread = float(one.error) * 5**0.5
    expected = np.ceil(TTestPower().solve_power(effect_size=margin / spread, alpha=0.05, power=0.8)) - 5
    assert further_seeds(one, 5, margin) == expected


def test_no_further_seeds_are_needed_for_a_large_margin():
    assert further_seeds(of_seeds(5), 5, 100.0) == 0


def test_no_seeds_help_where_items_are_the_limit():
    rng = np.random.default_rng(0)
    one = estimate([rng.normal(size=(3, 50)) / 100 + rng.normal(size=50)])
    limit = (stdtrit(np.inf, 0.975) + stdtrit(np.inf, 0.8)) * float(one.item_variance) ** 0.5
    assert further_seeds(one, 3, 0.99 * limit) is None
    assert isinstance(further_seeds(one, 3, 1.3 * limit), int)


def test_a_difference_without_error_is_always_found():
    one = estimate([np.zeros((3, 1))])
    assert smallest_detectable(one) == 0
    assert further_seeds(one, 3, 0.1) == 0


def test_a_difference_of_the_smallest_detectable_size_is_found_in_80_percent():
    rng = np.random.default_rng(0)
    seeds, items = 5, 100
    draws = rng.normal(size=(3000, seeds, 1)) + 4 * rng.normal(size=(3000, 1, items))
    one = estimate([draws + rng.normal(size=(3000, seeds, items))], 0.0)
    variances = float(one.seed_variance.mean()), float(one.item_variance.mean())
    effect = smallest_detectable(Estimate(0.0, variances[0], seeds - 1, variances[1], items - 1))
    found = np.abs(one.mean + effect) > one.half_width()
    assert found.mean() == pytest.approx(0.8, abs=0.03)
