"""Intervals over items are those of the formulas in the books."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from poslab.evaluation.scores.intervals import difference, excess, interval, ratio_interval
from poslab.evaluation.scores.items import ItemScores


def scores(sums, counts=None, identity="same") -> ItemScores:
    sums = np.asarray(sums, np.float64)
    return ItemScores("metric", 8, sums, np.ones(len(sums), np.int64) if counts is None else np.array(counts), identity)


@pytest.mark.parametrize(("right", "of"), [(0, 20), (17, 20), (20, 20), (64, 64)])
def test_items_that_are_right_or_wrong_have_wilsons_interval(right, of):
    """Which is wide enough where all of them are right."""
    p, z = right / of, stats.norm.ppf(0.975)
    middle, half = p + z**2 / (2 * of), z * math.sqrt(p * (1 - p) / of + z**2 / (4 * of**2))
    low, high = interval(scores([100.0] * right + [0.0] * (of - right)), is_share=True)
    assert (low, high) == pytest.approx([100 * end / (1 + z**2 / of) for end in (middle - half, middle + half)])


def test_a_share_of_symbols_has_students_interval_and_stays_within_0_to_100(rng):
    values = rng.uniform(20, 80, 30)
    low, high = interval(scores(values), is_share=True)
    half = stats.t.ppf(0.975, 29) * values.std(ddof=1) / math.sqrt(30)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert interval(scores([100.0] * 9 + [50.0]), is_share=True)[1] == 100


def test_a_loss_has_the_bootstrap_over_items(rng):
    sums, counts = rng.gamma(2, 3, 40), rng.integers(1, 9, 40)
    assert interval(scores(sums, counts), is_share=False, seed=3) == ratio_interval(sums, counts, seed=3)


def test_items_that_do_not_count_change_nothing(rng):
    values = rng.uniform(0, 100, 12)
    padded, counts = np.append(values, [0, 0]), [1] * 12 + [0, 0]
    assert interval(scores(padded, counts), True) == pytest.approx(interval(scores(values), True))


@pytest.mark.parametrize("is_share", [True, False])
def test_fewer_than_five_items_have_no_interval(is_share):
    assert np.isnan(interval(scores([1.0, 2.0, 3.0, 4.0]), is_share)).all()
    assert np.isnan(difference(scores([1.0, 2.0]), scores([2.0, 3.0]), is_share)[1:]).all()


def test_a_difference_is_that_of_pairs_however_different_the_items_are(rng):
    hard = rng.uniform(0, 90, 50)
    result, low, high = difference(scores(hard + rng.uniform(4, 6, 50)), scores(hard), is_share=True)
    assert 4 < low < result < high < 6


def test_a_difference_is_on_the_items_that_count_in_both():
    item, other = scores([9.0, 5, 5, 5, 5, 5], [0, 1, 1, 1, 1, 1]), scores([1.0, 4, 4, 4, 4, 4])
    assert difference(item, other, is_share=True) == (1.0, 1.0, 1.0)


def test_other_items_are_refused():
    with pytest.raises(ValueError, match=r"must be.*the same items"):
        difference(scores([1.0] * 6), scores([1.0] * 6, identity="other"), is_share=True)


def test_shares_at_two_lengths_differ_by_newcombes_interval():
    computed, reference = (
        scores([100.0] * right + [0.0] * (of - right), identity=str(of)) for right, of in ((56, 70), (48, 80))
    )
    low, high = confint_proportions_2indep(56, 70, 48, 80, method="newcomb", compare="diff")
    assert excess(computed, reference, 1.0, is_share=True) == pytest.approx((100 * low, 100 * high))
    low, high = excess(computed, reference, 0.5, is_share=True)
    (_, top), (bottom, _) = interval(computed, True), interval(reference, True)
    assert high == pytest.approx(80 - 30 + math.hypot(top - 80, 0.5 * (60 - bottom)))


def test_losses_of_the_same_items_at_two_lengths_are_paired(rng):
    hard = rng.uniform(0, 90, 50)
    low, high = excess(scores(1.05 * hard + rng.uniform(4, 6, 50)), scores(hard), 1.05, is_share=False)
    assert 4 < low < high < 6
    assert np.isnan(excess(scores([1.0, 2.0]), scores([2.0, 3.0]), 1.05, is_share=False)).all()
