import math

import numpy as np
import pytest
from scipy import stats

from poslab.experiments.statistics.difference import Scores, difference

OURS, THEIRS = np.array([3.0, 5.0, 4.0, 9.0]), np.array([1.0, 2.0, 3.0, 9.5])


def test_paired_differences_are_those_of_scipy():
    found = difference(Scores(OURS), Scores(THEIRS), "maximize")
    expected = stats.ttest_rel(OURS, THEIRS)
    assert found.mean == pytest.approx((OURS - THEIRS).mean())
    assert found.interval == pytest.approx(tuple(expected.confidence_interval()))
    assert (found.p_value, found.df, found.pairs) == (pytest.approx(expected.pvalue), 3, 4)
    assert found.paired_spread == pytest.approx(np.std([2, 3, 1, -0.5], ddof=1))
    assert found.unpaired_spread == pytest.approx(math.sqrt(OURS.var(ddof=1) + THEIRS.var(ddof=1)))


def test_the_direction_says_which_is_better_and_leaves_the_difference():
    high, low = (difference(Scores(OURS), Scores(THEIRS), direction) for direction in ("maximize", "minimize"))
    assert (high.share_better, low.share_better) == (0.75, 0.25)
    assert high.mean == low.mean
    assert high.gain == -low.gain > 0


def test_seeds_that_are_not_pairs_take_welch():
    found = difference(Scores(OURS), Scores(THEIRS[:3]), "maximize", paired=False)
    assert found.p_value == pytest.approx(stats.ttest_ind(OURS, THEIRS[:3], equal_var=False).pvalue)
    assert found.share_better == pytest.approx(sum(x > y for x in OURS for y in THEIRS[:3]) / 12)
    assert math.isnan(found.paired_spread)


def test_pairs_of_which_a_run_diverged_are_left_out():
    diverged = Scores(np.array([3.0, np.nan, 4.0, 9.0, np.inf]), np.array([[3.0], [np.nan], [4.0], [9.0], [1.0]]))
    found = difference(diverged, Scores(np.append(THEIRS, 1.0)), "maximize")
    kept = difference(Scores(OURS[[0, 2, 3]]), Scores(THEIRS[[0, 2, 3]]), "maximize")
    assert (found.mean, found.interval, found.pairs) == (kept.mean, kept.interval, 3)
    assert diverged.diverged == 2


@pytest.mark.parametrize("pairs", [0, 1])
def test_fewer_than_two_pairs_have_no_interval(pairs, recwarn):
    values = np.array([1.0, np.nan])[: pairs + 1] if pairs else np.array([np.nan, np.nan])
    found = difference(Scores(values), Scores(np.zeros(len(values))), "maximize")
    assert found.pairs == pairs
    assert all(math.isnan(end) for end in (*found.interval, found.df))
    assert (found.p_value, found.beyond_p_value(0.1), found.equivalence_p_value(0.1)) == (1, 1, 1)
    assert math.isnan(found.mean) is (pairs == 0)
    assert not recwarn


def test_the_interval_is_for_new_items_where_both_have_items():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 5, 40)) + 3 * rng.normal(size=(2, 1, 40))
    with_items = difference(Scores.of_items(ours), Scores.of_items(theirs), "maximize")
    seeds_alone = difference(Scores.of_items(ours), Scores(theirs.mean(1)), "maximize")
    assert np.diff(with_items.interval) > 2 * np.diff(seeds_alone.interval)
    assert with_items.mean == pytest.approx(seeds_alone.mean)


def test_a_constant_100_percent_on_both_sides_is_no_difference(recwarn):
    solved = Scores.of_items(np.full((3, 50), 100.0))
    found = difference(solved, solved, "maximize")
    assert (found.mean, found.interval, found.p_value, found.share_better) == (0, (0, 0), 1, 0)
    assert found.equivalence_p_value(1) == 0
    assert not recwarn


def test_a_constant_100_percent_beside_0_is_a_sure_difference(recwarn):
    found = difference(Scores.of_items(np.full((3, 50), 100.0)), Scores.of_items(np.zeros((3, 50))), "maximize")
    low, high = found.interval
    assert 95 < low < 100 < high < 105
    assert not recwarn


def test_all_runs_better_by_the_same_single_item_are_not_enough():
    one_more = np.zeros((3, 50))
    one_more[:, 0] = 100
    assert difference(Scores.of_items(one_more), Scores.of_items(np.zeros((3, 50))), "maximize").p_value > 0.05


def test_by_more_than_the_margin_is_a_test_at_the_margin():
    found = difference(Scores(-OURS), Scores(np.zeros(4)), "minimize")
    assert found.beyond_p_value(1.0) == pytest.approx(stats.ttest_1samp(-OURS, -1.0).pvalue)
    assert found.beyond_p_value(6.0) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scores(np.zeros((2, 2))), r"values .* \(seeds,\), got \(2, 2\)"),
        (lambda: Scores(np.zeros(2), np.zeros((3, 2))), r"items must.*shape \(2, items\), got \(3, 2\)"),
        (lambda: Scores(np.zeros(1), np.ones((1, 2))), "the means.*be the values"),
        (lambda: difference(Scores(OURS), Scores(OURS[:2]), "maximize"), "equally many, got 4 and 2"),
        (
            lambda: difference(*(Scores.of_items(np.ones((2, items))) for items in (3, 4)), "maximize"),
            "items must.*many, got 3 and 4",
        ),
    ],
)
def test_scores_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def of_one_seed(items):
    return Scores.of_items(np.array([items], float))


def test_models_that_are_given_have_an_interval_for_new_items_with_one_seed():
    rng = np.random.default_rng(1)
    ours, theirs = rng.normal(size=(2, 30))
    found = difference(of_one_seed(ours), of_one_seed(theirs), "maximize", given=True)
    expected = stats.ttest_rel(ours, theirs)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval()))
    assert found.p_value == pytest.approx(expected.pvalue)
    assert difference(of_one_seed(ours), of_one_seed(theirs), "maximize").estimate is None


def test_shares_of_items_have_the_interval_of_agresti_and_min():
    ours, theirs = [100] * 9 + [0] * 11, [100] * 3 + [0] * 17  # 6 right only in the first, none only in the second
    found = difference(of_one_seed(ours), of_one_seed(theirs), "maximize", limit=100.0, given=True)
    centre, variance = 6 / 22, (7 / 22 - (6 / 22) ** 2) / 22
    half = stats.t.ppf(0.975, 21) * math.sqrt(variance)
    assert found.interval == pytest.approx((100 * (centre - half), 100 * (centre + half)))
    assert found.mean == pytest.approx(30)


def test_models_with_equal_answers_are_equivalent_only_with_enough_items():
    few, many = (
        difference(of_one_seed([100, 0] * pairs), of_one_seed([100, 0] * pairs), "maximize", limit=100.0, given=True)
        for pairs in (10, 100)
    )
    assert few.p_value == many.p_value == 1
    assert few.equivalence_p_value(5) > 0.05 > many.equivalence_p_value(5)
    losses = difference(of_one_seed([1.0, 2.0]), of_one_seed([1.0, 2.0]), "minimize", given=True)
    assert losses.equivalence_p_value(0.05) == 0


def test_a_difference_is_not_worse_by_more_than_the_margin_where_the_one_sided_interval_ends_above():
    rng = np.random.default_rng(2)
    ours = rng.normal(size=40)
    theirs = ours + 0.1 * rng.normal(size=40) - 0.02  # losses: ours is larger, so worse
    found = difference(of_one_seed(ours), of_one_seed(theirs), "minimize", given=True)
    expected = stats.ttest_1samp(ours - theirs, 0.05, alternative="less")
    assert found.not_worse_p_value(0.05) == pytest.approx(expected.pvalue)
    assert found.not_worse_p_value(0.001) > 0.5
