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


def test_where_nothing_is_told_apart_the_smallest_difference_that_would_have_been_found_is_said():
    """It is that of statsmodels for one of two encodings, of which Holm's first has half the level."""
    noisy = BASELINE + 10 * NOISE
    scores = {"alibi": Scores(BASELINE), "rotary": Scores(noisy), "none": Scores(BASELINE + 0.2 + 20 * NOISE)}
    found = verdicts(scores, "alibi", "maximize")["rotary"]
    spread = (noisy - BASELINE).std(ddof=1)
    expected = spread * TTestPower().solve_power(nobs=5, alpha=0.05 / 2, power=0.8)
    assert found.detectable == pytest.approx(expected, rel=1e-3)
    assert verdict(BASELINE + 5 + NOISE).detectable is None


def test_without_a_margin_nothing_is_equal_and_no_seeds_are_advised():
    found = verdict(BASELINE + NOISE)
    assert (found.word, found.further_seeds) == (Word.INCONCLUSIVE, None)


def test_p_values_are_adjusted_over_the_encodings_as_statsmodels_does():
    rng = np.random.default_rng(0)
    scores = {f"encoding {index}": Scores(BASELINE + index + 2 * rng.normal(size=5)) for index in range(5)}
    found = verdicts({"alibi": Scores(BASELINE), **scores}, "alibi", "maximize")
    alone = [stats.ttest_rel(encoding.values, BASELINE).pvalue for encoding in scores.values()]
    assert [verdict.p_value for verdict in found.values()] == pytest.approx(multipletests(alone, method="holm")[1])
    assert [verdict.word is Word.BETTER for verdict in found.values()] == list(multipletests(alone, method="holm")[0])


def test_p_values_beside_the_best_are_adjusted_over_all_pairs_that_have_learned():
    rng = np.random.default_rng(0)
    scores = {
        name: Scores(BASELINE + gain + rng.normal(size=5)) for name, gain in zip("abcd", (0, 1, 4, 8), strict=True)
    }
    found = verdicts(scores, "d", "maximize", all_pairs=True, not_learned=["a"])
    pairs = [("b", "d"), ("c", "d"), ("b", "c")]
    alone = [stats.ttest_rel(scores[one].values, scores[other].values).pvalue for one, other in pairs]
    expected = multipletests(alone, method="holm")[1][:2]
    assert [found[name].p_value for name in "bc"] == pytest.approx(expected)
    assert (list(found), found["a"].word) == (["a", "b", "c"], Word.NOT_LEARNED)


def test_a_small_p_value_among_many_encodings_is_not_told_apart():
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
    assert (found.difference.pairs, found.diverged) == (1, 1)


@pytest.mark.parametrize(("ours", "theirs"), [(np.full(5, np.nan), BASELINE), (BASELINE, np.full(5, np.nan))])
def test_runs_that_all_diverged_are_a_result(ours, theirs, recwarn):
    found = verdict(ours, theirs)
    assert found.word is Word.DIVERGED
    assert found.diverged == np.isnan(ours).sum()
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
    found = verdict(values, baseline, margin=1.0)
    assert (found.word, found.diverged) == (word, ours)


def test_seeds_that_split_are_compared_by_their_solve_rates():
    ours, theirs = np.array([95, 99, 97, 98, 96, 99, 95, 99.0]), np.array([5, 3, 90, 2, 4, 1, 0, 6.0])
    found = verdict(ours, theirs, margin=1.0, share=True)
    assert found.word is Word.BETTER
    assert found.p_value == pytest.approx(2 / 2**7)


def test_where_solve_rates_decide_the_difference_that_is_shown_is_theirs():
    ours, theirs = np.array([95, 99, 97, 98, 96, 99, 95, 99.0]), np.array([5, 3, 90, 2, 4, 1, 0, 6.0])
    mean, low, high = verdict(ours, theirs, share=True).compared
    assert mean == pytest.approx(87.5)
    assert 0 < low < mean < high <= 100
    found = verdict(ours, theirs)
    assert found.compared == (found.difference.mean, *found.difference.interval)


def test_five_seeds_that_split_ask_for_more():
    found = verdict([95, 99, 97, 98, 10], [5, 3, 1, 2, 4], margin=1.0, share=True)
    assert (found.word, found.further_seeds) == (Word.INCONCLUSIVE, 1)


def test_diverged_runs_have_not_solved_the_case():
    found = verdict([95] + [np.nan] * 7, np.full(8, 99.0), share=True)
    assert (found.word, found.p_value) == (Word.WORSE, pytest.approx(2 / 2**7))


def test_no_encoding_beside_the_baseline_is_no_verdict():
    assert verdicts({"alibi": Scores(BASELINE)}, "alibi", "maximize") == {}


def test_solve_rates_speak_only_where_more_is_better():
    """Of a share of errors, say, a seed above 80 has solved nothing."""
    ours, theirs = [95, 99, 97, 98, 96, 99, 95, 99.0], [5, 3, 90, 2, 4, 1, 0, 6.0]
    assert verdict(ours, theirs, direction="minimize", share=True).word is Word.WORSE


def test_the_p_value_alone_is_of_the_test_that_gives_the_word():
    found = verdict([95, 99, 97, 98, 96], [5, 3, 90, 2, 4], share=True)
    assert (found.p_alone, found.p_value) == (pytest.approx(2 / 2**4), pytest.approx(2 / 2**4))
    means = verdict([95, 99, 97, 98, 96], [5, 3, 90, 2, 4])
    assert means.p_alone == pytest.approx(stats.ttest_rel([95, 99, 97, 98, 96], [5, 3, 90, 2, 4]).pvalue)
