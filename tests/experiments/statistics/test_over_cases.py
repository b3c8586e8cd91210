import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from poslab.experiments.statistics.over_cases import (
    interquartile_mean,
    mean_ranks,
    new_corpus,
    normalised,
    performance_profile,
    probability_of_improvement,
    signed_rank_p_values,
)

# the example of rliable's own tests (tests/rliable/metrics_test.py), with its results
X, Y = np.array([[1, 2], [2, 2], [1, 1], [2, 1]], float), np.array([[1, 1], [2, 2], [3, 3]], float)


def test_rliables_example_has_rliables_results():
    assert interquartile_mean(X).value == 1.5
    assert interquartile_mean(Y).value == 2
    assert probability_of_improvement(X, Y).value == pytest.approx(1 / 3)


def test_the_probability_of_improvement_is_rliables_mean_of_mann_whitney(rng):
    ours, theirs = rng.normal(0.3, 1, (5, 10)).round(1), rng.normal(0, 1, (4, 10)).round(1)
    expected = np.mean([stats.mannwhitneyu(ours[:, case], theirs[:, case]).statistic / 20 for case in range(10)])
    found = probability_of_improvement(ours, theirs)
    assert found.value == pytest.approx(expected)
    assert found.low < expected < found.high


def test_a_performance_profile_is_the_share_of_runs_above_each_threshold(rng):
    scores, thresholds = rng.random((3, 9)), np.array([0.2, 0.5, 2.0])
    profile = performance_profile(scores, thresholds)
    expected = [np.mean([run > threshold for run in scores.ravel()]) for threshold in thresholds]
    assert profile.value == pytest.approx(expected)
    assert (profile.low <= profile.value).all() and (profile.value <= profile.high).all()
    assert profile.low[0] < profile.high[0]


def test_the_interval_of_the_interquartile_mean_draws_seeds_within_each_case(rng):
    """The bootstrap of rliable, by a loop: cases stay, the seeds of each are drawn by themselves."""
    scores = rng.normal(size=(4, 8)) + 5 * np.arange(8)
    drawn = [
        stats.trim_mean(
            np.stack([scores[rng.integers(4, size=4), case] for case in range(8)]), proportiontocut=0.25, axis=None
        )
        for _ in range(1000)
    ]
    found = interquartile_mean(scores)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.1)


def test_cases_in_which_every_seed_is_equal_have_an_interval_of_no_width(recwarn):
    found = interquartile_mean(np.tile(np.arange(8.0), (3, 1)))
    assert found.low == found.value == found.high
    assert not recwarn


def test_mean_ranks_are_those_of_a_loop_with_shared_ties():
    gains = np.array([[3.0, 1.0, 2.0], [2.0, 1.0, np.nan], [1.0, 0.0, 5.0]])
    found = mean_ranks(gains)
    assert found.value == pytest.approx([(1 + 1.5 + 2) / 3, (2 + 1.5 + 3) / 3, (3 + 3 + 1) / 3])
    assert np.isnan(found.low).all()


def test_mean_ranks_are_those_of_autorank():
    """Figures of autorank 1.3.0, which is not installed: its dependency baycomp puts a package `tests` on the path."""
    gains = np.array(
        [
            [61, 70, 55, 80, 42, 66, 73, 58, 90],
            [64, 69, 59, 83, 47, 66, 75, 63, 91],
            [50, 72, 51, 79, 40, 68, 70, 57, 88],
        ],
        dtype=float,
    )
    assert mean_ranks(gains).value == pytest.approx([2.055556, 1.388889, 2.555556], abs=1e-6)


def test_intervals_of_mean_ranks_are_over_cases(rng):
    found = mean_ranks(np.stack([np.full(12, 9.0), *rng.normal(size=(2, 12))]))
    assert (found.low[0], found.value[0], found.high[0]) == (1, 1, 1)
    assert (found.low[1:] < found.value[1:]).all() and (found.value[1:] < found.high[1:]).all()


def test_over_eight_cases_wilcoxon_and_holm_decide(rng):
    gains = rng.normal([[0.0], [0.5], [2.0]], 1, (3, 10))
    expected = multipletests([stats.wilcoxon(encoding).pvalue for encoding in gains], method="holm")[1]
    assert signed_rank_p_values(gains) == pytest.approx(expected)


def test_an_encoding_that_never_differs_has_a_p_value_of_1(recwarn):
    assert signed_rank_p_values(np.zeros((1, 8)))[0] == 1
    assert not recwarn


def test_fewer_than_eight_cases_claim_nothing(rng):
    assert np.isnan(signed_rank_p_values(rng.normal(size=(2, 7)))).all()
    assert np.isnan(interquartile_mean(rng.normal(size=(5, 7))).low)


def test_a_single_seed_has_no_interval(rng):
    assert np.isnan(interquartile_mean(rng.normal(size=(1, 9))).low)


def test_normalised_means_reach_from_0_to_1_and_a_diverged_run_counts_as_the_worst():
    scores = np.array([[[1.0, 7.0], [3.0, 7.0]], [[6.0, 7.0], [np.nan, 7.0]]])
    found = normalised(scores)
    assert found[..., 0].mean(1) == pytest.approx([0, 1])
    assert found[1, 1, 0] == found[0, 0, 0]
    assert (found[..., 1] == 0.5).all()


def test_the_prediction_interval_of_a_new_corpus_holds_it_in_95_percent():
    rng = np.random.default_rng(0)
    corpora, seeds, between, within = 5, 4, 0.03, 0.02
    true = 0.1 + between * rng.standard_normal((2000, corpora + 1))
    measured = true + within / seeds**0.5 * rng.standard_normal(true.shape)
    held, deviations = 0, []
    for *known, new in measured:
        found = new_corpus(np.array(known), np.full(corpora, within**2 / seeds), seeds)
        held += found["low"] <= new <= found["high"]
        deviations.append(found["between_corpora"] ** 2)
        assert found["between_seeds"] == pytest.approx(within)
    assert held / len(measured) == pytest.approx(0.95, abs=0.015)
    assert np.mean(deviations) ** 0.5 == pytest.approx(between, rel=0.1)
