"""Intervals of a metric over test items, and of the difference of two models on the same items.

Items, such as documents, are the units that were sampled: tokens of one are correlated. Dimension letters: N items, D
documents.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy import stats

from poslab.evaluation.scores.items import ItemScores, shared_items

RESAMPLES = 2000
LEVEL = 0.95

MIN_ITEMS = 5  # documents needed for an interval: with fewer, too many resamples have only one document

ROUNDING = 1e-9  # error of a resample, as a share of the error of all documents, below which it is one of rounding


def ratio_interval(
    sums: np.ndarray, counts: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Return the 95% studentised bootstrap interval of `sum(sums) / sum(counts)`.

    Documents are drawn with replacement. The pivot of a resample R* is `t = (R* - R) / se*`, where `se` is the error of
    a ratio to first order, `sqrt(D / (D - 1) sum (s - R c)^2) / sum c`; the interval reaches from `R - t_high se` to
    `R - t_low se`. For few documents with skewed losses its coverage is closer to 95% than with percentiles, BCa or
    Student's t. Where an end would be infinite, because too many resamples contain documents that are alike, both
    are from Student's t.

    Args:
        sums, counts: (D,) of each document, such as its loss in nats and its tokens.
        resamples: number of samples.
        seed: of the draws.

    Returns:
        Lower and upper end; NaN with fewer than 5 documents, which reveal little of how documents differ.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), section 12.5; Cochran, "Sampling
        Techniques" (1977), section 6.4, for the error.
    """
    documents = counts > 0
    sums, counts = sums[documents].astype(np.float64), counts[documents].astype(np.float64)
    if len(sums) < MIN_ITEMS:
        return math.nan, math.nan
    ratio, error = _ratio_and_error(sums, counts)
    generator = np.random.default_rng(seed)
    pivots = np.empty(resamples)
    for resample in range(resamples):
        drawn = generator.integers(len(sums), size=len(sums))
        drawn_ratio, drawn_error = _ratio_and_error(sums[drawn], counts[drawn])
        difference = drawn_ratio - ratio
        has_error = drawn_error > ROUNDING * error
        pivots[resample] = difference / drawn_error if has_error else math.copysign(math.inf, difference)
    low, high = np.quantile(pivots, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    if math.isinf(low) or math.isinf(high):
        low, high = stats.t.interval(LEVEL, len(sums) - 1)
    return ratio - high * error, ratio - low * error


def _ratio_and_error(sums: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    total = counts.sum()
    ratio = sums.sum() / total
    residuals = sums - ratio * counts
    return float(ratio), float(math.sqrt(len(sums) / (len(sums) - 1) * (residuals @ residuals)) / total)


def interval(scores: ItemScores, is_share: bool, seed: int = 0) -> tuple[float, float]:
    """Return the 95% interval of a metric over new items; NaN with fewer than 5 of them.

    A loss has the studentised bootstrap, from a seed. For a share, from 0 to 100, too many resamples have no error to
    divide by: items that are right or wrong have Wilson's interval, others Student's within 0 to 100.
    """
    if not is_share:
        return ratio_interval(scores.sums, scores.counts, seed=seed)
    (counted,) = shared_items([scores])
    number = len(counted.sums)
    if number < MIN_ITEMS:
        return math.nan, math.nan
    if (counted.counts == 1).all() and np.isin(counted.sums, (0.0, 100.0)).all():
        ends = stats.binomtest(int((counted.sums == 100.0).sum()), number).proportion_ci(LEVEL, method="wilson")
        return 100 * ends.low, 100 * ends.high
    low, high = _student(counted.linearised)
    return max(low, 0.0), min(high, 100.0)


def difference(scores: ItemScores, other: ItemScores, is_share: bool, seed: int = 0) -> tuple[float, float, float]:
    """Return how much more a model scores than another on the items of both, and the 95% interval.

    Arguments are as of `interval`. The ends are NaN with fewer than 5 items. ValueError if the items are not the same.
    """
    first, second = shared_items([scores, other])
    differences_N = first.linearised - second.linearised
    if len(differences_N) < MIN_ITEMS:
        return first.value - second.value, math.nan, math.nan
    ends = (
        _student(differences_N) if is_share else ratio_interval(differences_N, np.ones(len(differences_N)), seed=seed)
    )
    return first.value - second.value, *ends


def excess(
    scores: ItemScores, reference: ItemScores, factor: float, is_share: bool, seed: int = 0
) -> tuple[float, float]:
    """Return the 95% interval of how much more a model scores than `factor` times what it scores at another length.

    Losses on the same items are paired. Otherwise the intervals of both are joined as for independent samples,
    which is Newcombe's for two shares and a factor of 1:

        d = R - factor R',    low = d - sqrt((R - R_low)^2 + factor^2 (R'_high - R')^2),    high likewise

    Other arguments are as of `interval`. The ends are NaN with fewer than 5 items at either length.

    Source: Zou and Donner, "Construction of confidence limits about effect measures" (2008), section 2; Newcombe,
        "Interval estimation for the difference between independent proportions" (1998), method 10.
    """
    if not is_share and scores.identity == reference.identity:
        first, second = shared_items([scores, replace(reference, length=scores.length)])
        differences_N = first.linearised - factor * second.linearised
        return ratio_interval(differences_N, np.ones(len(differences_N)), seed=seed)
    difference = scores.value - factor * reference.value
    low, high = interval(scores, is_share, seed)
    reference_low, reference_high = interval(reference, is_share, seed)
    return (
        difference - math.hypot(scores.value - low, factor * (reference_high - reference.value)),
        difference + math.hypot(high - scores.value, factor * (reference.value - reference_low)),
    )


def _student(values_N: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of a mean."""
    number = len(values_N)
    half = stats.t.ppf((1 + LEVEL) / 2, number - 1) * values_N.std(ddof=1) / math.sqrt(number)
    return values_N.mean() - half, values_N.mean() + half
