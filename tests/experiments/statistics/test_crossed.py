import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from poslab.experiments.statistics.crossed import Estimate, estimate


def test_without_items_the_estimate_is_that_of_scipys_paired_test(rng):
    ours, theirs = rng.normal(size=(2, 5))
    one = estimate([(ours - theirs)[:, None]])
    expected = stats.ttest_rel(ours, theirs)
    assert one.p_value() == pytest.approx(expected.pvalue)
    assert one.df == pytest.approx(expected.df)
    assert one.interval(0.9) == pytest.approx(tuple(expected.confidence_interval(0.9)))
    assert one.p_value(0.3) == pytest.approx(stats.ttest_1samp(ours - theirs, 0.3).pvalue)


def test_two_groups_without_items_are_welchs_test(rng):
    ours, theirs = rng.normal(size=4), 3 * rng.normal(size=7)
    one = estimate([ours[:, None], -theirs[:, None]])
    expected = stats.ttest_ind(ours, theirs, equal_var=False)
    assert one.p_value() == pytest.approx(expected.pvalue)
    assert one.df == pytest.approx(expected.df)
    assert one.interval() == pytest.approx(tuple(expected.confidence_interval()))


@pytest.mark.parametrize("margin", [0.1, 0.6, 3.0])
def test_equivalence_is_that_of_statsmodels(rng, margin):
    ours, theirs = rng.normal(size=(2, 6))
    expected = ttost_paired(ours, theirs, -margin, margin)[0]
    assert estimate([(ours - theirs)[:, None]]).equivalence_p_value(margin) == pytest.approx(expected)


def test_an_equivalence_below_5_percent_is_a_90_percent_interval_within_the_margin(rng):
    one = estimate([rng.normal(size=(5, 30))])
    low, high = one.interval(0.9)
    edge = max(-low, high)
    assert one.equivalence_p_value(1.001 * edge) < 0.05 < one.equivalence_p_value(0.999 * edge)


def test_variances_are_those_of_a_two_way_analysis_by_hand(rng):
    S, I = 4, 6  # noqa: E741
    x_SI = rng.normal(size=(S, I)) + rng.normal(size=(S, 1)) + 2 * rng.normal(size=I)
    total = x_SI.mean()
    seeds = [sum(x_SI[s, i] for i in range(I)) / I for s in range(S)]
    items = [sum(x_SI[s, i] for s in range(S)) / S for i in range(I)]
    of_seeds = sum(I * (mean - total) ** 2 for mean in seeds) / (S - 1)
    of_items = sum(S * (mean - total) ** 2 for mean in items) / (I - 1)
    residual = sum((x_SI[s, i] - seeds[s] - items[i] + total) ** 2 for s in range(S) for i in range(I))
    residual /= (S - 1) * (I - 1)
    one = estimate([x_SI])
    assert one.mean == pytest.approx(total)
    assert one.seed_variance == pytest.approx(of_seeds / (S * I))
    assert one.item_variance == pytest.approx((of_items - residual) / (S * I))
    assert one.error**2 == pytest.approx((of_seeds + of_items - residual) / (S * I))
    assert (one.seed_df, one.item_df) == (S - 1, I - 1)


def test_groups_without_pairs_have_the_right_variances_on_average(rng):
    ours = rng.normal(size=(4000, 3, 1)) + rng.normal(size=(4000, 1, 20)) + rng.normal(size=(4000, 3, 20))
    theirs = 2 * rng.normal(size=(4000, 5, 1)) + rng.normal(size=(4000, 1, 20)) + rng.normal(size=(4000, 5, 20))
    one = estimate([ours, -theirs], 0.0)
    assert one.seed_variance.mean() == pytest.approx(1 / 3 + 4 / 5 + 1 / 60 + 1 / 100, rel=0.05)
    assert one.item_variance.mean() == pytest.approx(2 / 20, rel=0.05)


def test_a_p_value_is_the_level_of_the_interval_that_ends_at_the_mean(rng):
    one = estimate([rng.normal(size=(3, 40)) + rng.normal(size=40) + 0.2])
    for mean in (0.0, -0.3, 0.1, -50.0):
        assert min(np.abs(np.array(one.interval(1 - one.p_value(mean))) - mean)) < 1e-6 * max(1, abs(mean))


def test_squared_half_widths_of_both_sources_add():
    one = estimate([np.array([[0.0, 4.0, 2.0], [1.0, 9.0, 2.0]])])
    seeds = stats.t.ppf(0.975, 1) ** 2 * one.seed_variance
    items = stats.t.ppf(0.975, 2) ** 2 * one.item_variance
    assert one.item_variance > 0
    assert one.half_width() == pytest.approx(math.sqrt(seeds + items))


def test_a_residual_alone_is_not_counted_twice(rng):
    one = estimate([rng.normal(size=(2000, 5, 50))], 0.0)
    assert (one.error**2).mean() == pytest.approx(1 / 250, rel=0.1)


def test_an_estimate_without_any_error_is_sure(recwarn):
    one = estimate([np.zeros((3, 1))])
    assert one.p_value() == 1
    assert one.p_value(1.0) == 0
    assert one.interval() == (0, 0)
    assert one.equivalence_p_value(0.1) == 0
    assert not recwarn


@pytest.mark.parametrize(("seeds", "told"), [(2, False), (3, False), (4, True), (5, True)])
def test_equal_differences_are_as_many_as_luck_allows(seeds, told, recwarn):
    """Two draws from one distribution differ by the same amount, not 0, n times in at most 2 / 3^n of all cases."""
    one = estimate([np.full((seeds, 1), 0.5)])
    assert (one.p_value() < 0.05) is told
    assert one.p_value() > 2 / 3**seeds / 10
    assert not recwarn


def test_equal_differences_far_above_the_step_of_the_metric_are_found():
    low, high = estimate([np.full((3, 200), 100.0)], step=0.5).interval()
    assert 99 < low < 100 < high < 101


@pytest.mark.parametrize("part", [1e-30, 1e-16, 1e16, 1e30])
def test_a_source_that_is_nothing_but_rounding_leaves_the_p_value_of_the_other(part):
    one = Estimate(np.array(0.3), np.array(0.01), np.array(4.0), np.array(0.01 * part), 99)
    df, variance = (4, 0.01) if part < 1 else (99, 0.01 * part)
    assert one.p_value() == pytest.approx(2 * stats.t.sf(0.3 / variance**0.5, df), rel=1e-5)


def test_tiny_p_values_are_found():
    shape = np.random.default_rng(0).normal(size=(60, 30))
    assert 0 < estimate([shape + 1e5]).p_value() < 1e-100


@pytest.mark.parametrize(("means", "df"), [(3, 2), (4, 8), (10, 13), (60, 100)])
def test_intervals_for_all_pairs_are_those_of_scipys_studentized_range(means, df):
    together = Estimate(np.array(1.0), np.array(0.1), np.array(float(df)), np.zeros(()), means=means)
    error = 0.1**0.5
    half = stats.studentized_range.ppf(0.95, means, df) / 2**0.5 * error
    assert together.half_width() == pytest.approx(half, rel=2e-3)
    expected = stats.studentized_range.sf(2**0.5 / error, means, df)
    assert together.p_value() == pytest.approx(expected, rel=0.02)


def test_intervals_of_several_tests_have_bonferronis_level(rng):
    x = rng.normal(size=(5, 1)) + 1
    alone, together = estimate([x]), replace(estimate([x]), tests=6)
    assert together.half_width(0.95) == pytest.approx(alone.half_width(1 - 0.05 / 6))
    assert together.p_value() == pytest.approx(min(1, 6 * alone.p_value()))


@pytest.mark.parametrize("mean", [1e-9, 1e-3, 0.1, 3.0, 1e3])
def test_a_p_value_for_all_pairs_exists_however_small_or_large_the_mean(mean):
    together = Estimate(np.array(mean), np.array(0.01), np.array(8.0), np.array(0.02), 20, means=10)
    assert 0 <= together.p_value() <= 1
    assert (together.p_value() < 0.05) is bool(together.half_width() < mean)


@pytest.mark.parametrize("of", [{"means": 6}, {"tests": 15}])
@pytest.mark.parametrize("mean", [0.0, 0.199, 0.2, 0.201, 5.0])
def test_for_all_pairs_an_equivalence_is_a_95_percent_interval_within_the_margin(of, mean):
    for error in (0.001, 0.05, 0.5):
        together = Estimate(np.array(mean), np.array(error**2), np.array(8.0), np.zeros(()), **of)
        low, high = together.interval()
        assert (together.equivalence_p_value(0.2) < 0.05) is bool(-0.2 < low < high < 0.2)
