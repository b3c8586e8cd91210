import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from poslab.experiments.statistics.difference import Scores
from poslab.experiments.statistics.verdict import Word, verdicts

BASELINE = np.array([50.0, 51.0, 49.0, 50.5, 49.5])
NOISE = np.array([0.1, -0.1, 0.05, -0.05, 0.0])


def verdict(values, baseline=BASELINE, direction="maximize", **settings):
    scores = {"rotary": Scores(np.asarray(values, float)), "alibi": Scores(np.asarray(baseline, float))}
    return verdicts(scores, "alibi", direction, **settings)["rotary"]


@pytest.mark.parametrize(
    ("gain", "direction", "word", "beyond"),
    [
        (5, "maximize", Word.BETTER, True),
        (5, "minimize", Word.WORSE, True),
        (-5, "maximize", Word.WORSE, True),
        (-5, "minimize", Word.BETTER, True),
        (1.0, "maximize", Word.BETTER, False),
        (0.5, "maximize", Word.EQUIVALENT, False),
        (0.0, "maximize", Word.EQUIVALENT, False),
    ],
)
def test_the_word_follows_from_the_interval_the_margin_and_the_direction(gain, direction, word, beyond):
    found = verdict(BASELINE + gain + NOISE, direction=direction, margin=1.0)
    assert (found.word, found.beyond_margin) == (word, beyond)


def test_encodings_are_paired_by_seed_where_they_share_two_and_else_compared_without_pairs():
    rng = np.random.default_rng(0)
    alibi, rotary, none = (50 + rng.normal(size=size) for size in (5, 3, 4))
    found = verdicts(
        {
            "alibi": Scores(alibi, seeds=[1, 2, 3, 4, 5]),
            "rotary": Scores(rotary, seeds=[5, 9, 2]),
            "none": Scores(none, seeds=[5, 6, 7, 8]),
        },
        "alibi",
        "maximize",
    )
    rotarys, nones = found["rotary"].difference, found["none"].difference
    assert (rotarys.paired, rotarys.pairs, nones.paired, nones.pairs) == (True, 2, False, 4)
    assert rotarys.mean == pytest.approx((rotary[2] - alibi[1] + rotary[0] - alibi[4]) / 2)
    assert nones.p_value == pytest.approx(stats.ttest_ind(none, alibi, equal_var=False).pvalue)


def test_a_mean_alone_is_no_verdict():
    found = verdict(BASELINE + 5 + 100 * NOISE, margin=1.0)
    assert found.word is Word.INCONCLUSIVE
    assert found.further_seeds > 100


def test_an_inconclusive_verdict_says_the_smallest_difference_that_would_have_been_found():
    """It is that of statsmodels for one of two pairs of unequal variances, of which Holm's first has half the level."""
    noisy = BASELINE + 10 * NOISE
    scores = {"alibi": Scores(BASELINE), "rotary": Scores(noisy), "none": Scores(BASELINE + 0.2 + 1000 * NOISE)}
    found = verdicts(scores, "alibi", "maximize")["rotary"]
    spread = (noisy - BASELINE).std(ddof=1)
    expected = spread * TTestPower().solve_power(nobs=5, alpha=0.05 / 2, power=0.8)
    assert found.detectable == pytest.approx(expected, rel=1e-3)
    assert verdict(BASELINE + 5 + NOISE).detectable is None


def test_without_a_margin_nothing_is_equal_and_no_seeds_are_advised():
    found = verdict(BASELINE + NOISE)
    assert (found.word, found.further_seeds) == (Word.INCONCLUSIVE, None)


def of_equal_spread(means):
    """Five seeds of each encoding, whose variances are equal."""
    rows = [mean + np.roll(BASELINE, 2 * number) for number, mean in enumerate([0, *means])]
    return {f"encoding {number}": Scores(values) for number, values in enumerate(rows)}


def moderated(scores, name, baseline):
    """The standard error of a difference of blocks by hand, and its degrees of freedom."""
    residuals = np.array([of_encoding.values - of_encoding.mean for of_encoding in scores.values()])
    pooled = 2 * ((residuals - residuals.mean(0)) ** 2).sum() / (4 * len(scores) - 4)
    alone = (scores[name].values - scores[baseline].values).var(ddof=1)
    return (max((4 * pooled + 4 * alone) / 8, alone) / 5) ** 0.5, 8


def test_p_values_are_of_the_moderated_variance_and_adjusted_over_the_encodings():
    scores = of_equal_spread([1, 2, 3, 4])
    found = verdicts(scores, "encoding 0", "maximize")
    alone = []
    for mean, name in enumerate(found, 1):
        error, df = moderated(scores, name, "encoding 0")
        alone.append(2 * stats.t.sf(mean / error, df))
    assert [verdict.p_alone for verdict in found.values()] == pytest.approx(alone)
    assert [verdict.p_value for verdict in found.values()] == pytest.approx(multipletests(alone, method="holm")[1])


def test_next_to_the_best_intervals_and_p_values_are_those_of_tukey():
    scores = of_equal_spread([1, 2, 3, 4])
    found = verdicts(scores, "encoding 4", "maximize", is_best=True)
    for name, mean in zip(found, (4, 3, 2, 1), strict=True):
        error, df = moderated(scores, name, "encoding 4")
        expected = stats.studentized_range.sf(2**0.5 * mean / error, 5, df)
        assert found[name].p_value == pytest.approx(expected, rel=0.02)
        half = stats.studentized_range.ppf(0.95, 5, df) / 2**0.5 * error
        assert found[name].difference.interval == pytest.approx((-mean - half, -mean + half), rel=0.01)


def test_next_to_the_best_pairs_of_other_variances_are_adjusted_over_all_pairs_that_have_learned():
    rng = np.random.default_rng(0)
    scores = {name: Scores(50 + 10.0**number * rng.normal(size=5)) for number, name in enumerate("abcd", -2)}
    found = verdicts(scores, "d", "maximize", is_best=True, not_learned=["a"])
    alone = [stats.ttest_rel(scores[name].values, scores["d"].values).pvalue for name in "bc"]
    assert [found[name].p_value for name in "bc"] == pytest.approx(np.minimum(1, 3 * np.array(alone)))
    assert (list(found), found["a"].word) == (["a", "b", "c"], Word.NOT_LEARNED)


def test_a_small_p_value_among_many_encodings_is_inconclusive():
    scores = {f"encoding {index}": Scores(BASELINE + 1.0 + 10 * NOISE) for index in range(9)}
    one = verdicts({"alibi": Scores(BASELINE), "rotary": scores["encoding 0"]}, "alibi", "maximize")["rotary"]
    found = verdicts({"alibi": Scores(BASELINE), **scores}, "alibi", "maximize")["encoding 0"]
    assert (one.word, found.word) == (Word.BETTER, Word.INCONCLUSIVE)


def test_items_that_are_too_few_ask_for_more_examples():
    rng = np.random.default_rng(0)
    encodings = {name: Scores.of_items(rng.normal(size=40) + 0.01 * rng.normal(size=(5, 40))) for name in "ab"}
    found = verdicts(encodings, "a", "maximize", margin=0.1)["b"]
    assert (found.word, found.further_seeds) == (Word.INCONCLUSIVE, None)


def test_an_encoding_that_has_not_passed_the_gate_is_not_learned_and_not_counted():
    scores = {"alibi": Scores(BASELINE), "none": Scores(BASELINE - 40), "rotary": Scores(BASELINE + 2 + 10 * NOISE)}
    found = verdicts(scores, "alibi", "maximize", not_learned={"none"})
    assert found["none"].word is Word.NOT_LEARNED
    assert found["rotary"].p_value == pytest.approx(stats.ttest_rel(scores["rotary"].values, BASELINE).pvalue)


def test_one_seed_cannot_be_told_from_luck():
    assert verdict([90.0], [50.0], margin=1.0).word is Word.ONE_SEED


def test_one_pair_that_finished_is_one_seed():
    found = verdict([90.0, np.nan, 91.0], [50.0, 51.0, np.nan])
    assert found.word is Word.ONE_SEED
    assert found.difference.pairs == 1


@pytest.mark.parametrize(("ours", "theirs"), [(np.full(5, np.nan), BASELINE), (BASELINE, np.full(5, np.nan))])
def test_runs_that_all_diverged_are_a_result(ours, theirs, recwarn):
    found = verdict(ours, theirs)
    assert found.word is Word.DIVERGED
    assert not recwarn


@pytest.mark.parametrize(
    ("gain", "ours", "theirs", "word"),
    [
        (5, 1, 0, Word.INCONCLUSIVE),
        (0, 1, 0, Word.INCONCLUSIVE),
        (0, 0, 1, Word.INCONCLUSIVE),
        (-5, 1, 0, Word.WORSE),
        (-5, 0, 1, Word.INCONCLUSIVE),
        (5, 0, 1, Word.BETTER),
        (5, 1, 1, Word.BETTER),
    ],
)
def test_pairs_that_finished_do_not_speak_for_the_one_that_diverged_more(gain, ours, theirs, word):
    values, baseline = BASELINE + gain + NOISE, BASELINE.copy()
    values[:ours] = np.nan
    baseline[:theirs] = np.nan
    assert verdict(values, baseline, margin=1.0).word is word


def test_seeds_that_solve_a_task_or_do_not_are_compared_by_their_mean():
    """More success is no weaker a verdict: four of five seeds solve it, and all of the baseline fail."""
    found = verdict([8, 72, 89, 90, 68], [0, 0, 0, 0, 0], margin=2.0, share=True)
    assert found.word is Word.BETTER
    assert found.difference.mean == pytest.approx(65.4)


def test_intervals_of_shares_stay_inside_their_range():
    found = verdict([80, 100, 90, 100, 70], [5, 3, 9, 2, 4], share=True)
    low, high = found.difference.interval
    assert 0 < low < 84 < high <= 100
    assert verdict([10, 100], [5, 3], share=True).difference.interval == (-100, 100)


def test_no_encoding_beside_the_baseline_is_no_verdict():
    assert verdicts({"alibi": Scores(BASELINE)}, "alibi", "maximize") == {}
