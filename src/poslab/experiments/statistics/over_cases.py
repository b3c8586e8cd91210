"""Summarise a comparison over its cases, where these are many enough to represent others.

E encodings, S seeds, C cases, N thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit
from scipy.stats import bootstrap, rankdata, trim_mean, wilcoxon

from poslab.experiments.statistics.verdict import holm

MIN_CASES = 8  # cases needed for an interval or a test over cases: fewer are no sample of tasks

RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class Summary:
    """A statistic over cases with its 95% bootstrap interval, which is NaN with fewer than 8 cases or 2 seeds."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


MIN_CORPORA = 3  # corpora needed to say what another one may show


def new_corpus(differences: np.ndarray, variances: np.ndarray, seeds: float) -> dict[str, float]:
    """Return what a new corpus may show, by the analysis of variance of a random effect.

    Args:
        differences: (C,) mean difference on each corpus, at least 2.
        variances: (C,) squared standard error of each, from seeds and test items.
        seeds: number of seeds of each.

    Returns:
        The mean difference; the ends of its 95% prediction interval on a new corpus with as many seeds; the
        standard deviations of the true differences of corpora, and of the difference of a pair of runs on a corpus.
    """
    number, mean, variance = len(differences), float(differences.mean()), float(differences.var(ddof=1))
    half = float(-stdtrit(number - 1, 0.025)) * math.sqrt(variance * (1 + 1 / number))
    within = float(variances.mean())
    ends = {"difference": mean, "low": mean - half, "high": mean + half}
    between = math.sqrt(max(variance - within, 0.0))
    return {**ends, "between_corpora": between, "between_seeds": math.sqrt(within * seeds)}


def mean_ranks(gains: np.ndarray) -> Summary:
    """Return the mean rank of each encoding, (E,), with intervals over cases; rank 1 is the best, ties share theirs.

    Gains, (E, C), are means over seeds, large is good; NaN, if all runs diverged, ranks last.
    """
    ranks = rankdata(-np.where(np.isfinite(gains), gains, -np.inf), axis=0)  # (E, C)
    return _bootstrapped([ranks], np.mean, gains.shape[1])


def signed_rank_p_values(gains: np.ndarray) -> np.ndarray:
    """Return (E,) the p-values of Wilcoxon's signed-rank test over cases, adjusted by Holm's method over encodings.

    The gains, (E, C), are differences to the baseline, above 0 is better, in a unit that is the same for all cases,
    such as the margin of each. NaN with fewer than 8 cases.
    """
    if gains.shape[1] < MIN_CASES:
        return np.full(len(gains), np.nan)
    p_values = [float(wilcoxon(encoding).pvalue) if encoding.any() else 1.0 for encoding in gains]
    return holm(p_values)


def normalised(scores: np.ndarray) -> np.ndarray:
    """Return scores (E, S, C), large is good, scaled in each case from the worst encoding's mean, 0, to the best's, 1.

    They depend on which encodings are compared. A diverged run, NaN, counts as the worst run of the case. Cases in
    which all means are equal become 0.5.
    """
    lowest = np.where(np.isfinite(scores), scores, np.inf).min((0, 1))  # (C,)
    filled = np.where(np.isfinite(scores), scores, np.where(np.isfinite(lowest), lowest, 0.0))
    means = filled.mean(1)  # (E, C)
    low, span = means.min(0), np.ptp(means, axis=0)
    return np.where(span > 0, (filled - low) / np.where(span > 0, span, 1), 0.5)


def interquartile_mean(scores: np.ndarray) -> Summary:
    """Return the mean of the middle half of all runs, (S, C) of an encoding, with a bootstrap over seeds of each case.

    Source: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (2021), section 4.3.
    """
    return _over_seeds([scores], lambda drawn: trim_mean(drawn.reshape(*drawn.shape[:-2], -1), 0.25, axis=-1))


def performance_profile(scores: np.ndarray, thresholds: np.ndarray) -> Summary:
    """Return the share of all runs above each threshold, (N,), 0 to 1, with a bootstrap over the seeds of each case.

    Scores, (S, C), are of an encoding, such as `normalised` returns, and thresholds, (N,), in their unit.

    Source: Agarwal et al. (2021), section 4.2.
    """
    levels = thresholds[:, None, None]
    return _over_seeds([scores], lambda drawn: np.moveaxis((drawn[..., None, :, :] > levels).mean((-2, -1)), -1, 0))


def probability_of_improvement(scores: np.ndarray, baseline: np.ndarray) -> Summary:
    """Return the probability that a run is better than one of the baseline, averaged over cases; a tie is half.

    Both are (S, C) of all runs, such as `normalised` returns; their numbers of seeds may differ.

    Source: Agarwal et al. (2021), section 4.3: the Mann-Whitney statistic.
    """

    def probability(of_encoding: np.ndarray, of_baseline: np.ndarray) -> np.ndarray:
        return (np.sign(of_encoding[..., :, None, :] - of_baseline[..., None, :, :]).mean((-3, -2, -1)) + 1) / 2

    return _over_seeds([scores, baseline], probability)


def _over_seeds(groups: Sequence[np.ndarray], statistic: Callable[..., np.ndarray]) -> Summary:
    """Return a statistic of groups (S, C), with a bootstrap that draws the seeds of each case by themselves."""
    cases = groups[0].shape[1]

    def of_columns(*columns: np.ndarray, axis: int) -> np.ndarray:
        return statistic(*(np.stack(columns[start : start + cases], -1) for start in range(0, len(columns), cases)))

    columns = [column for group in groups for column in group.T]
    return _bootstrapped(columns, of_columns, cases)


def _bootstrapped(samples: Sequence[np.ndarray], statistic: Callable[..., np.ndarray], cases: int) -> Summary:
    """Return a statistic of samples and its percentile interval, where each is drawn by itself along its last axis."""
    value = np.asarray(statistic(*samples, axis=-1))
    if cases < MIN_CASES or min(sample.shape[-1] for sample in samples) < 2:
        return Summary(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    drawn = bootstrap(
        samples, statistic, n_resamples=RESAMPLES, batch=200, axis=-1, vectorized=True, method="percentile", rng=0
    )
    return Summary(value, drawn.confidence_interval.low, drawn.confidence_interval.high)
