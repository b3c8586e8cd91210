"""Intervals of a metric over test items, and of the difference of two models on the same items.

Dimension letter: N items.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy import stats

from poslab.evaluation.scores.bootstrap import FEWEST, LEVEL, ratio_interval
from poslab.evaluation.scores.items import ItemScores, shared_items


def interval(scores: ItemScores, is_share: bool, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of a metric over new items; NaN with fewer than 5 of them.

    A loss has the studentised bootstrap. For a share too many resamples have no error to divide by: items that are
    right or wrong have Wilson's interval, others Student's within 0 to 100.

    Args:
        scores: of the items.
        is_share: whether the metric is a share or a score from 0 to 100.
        seed: of the bootstrap.
    """
    if not is_share:
        return ratio_interval(scores.sums, scores.counts, seed=seed)
    (counted,) = shared_items([scores])
    number = len(counted.sums)
    if number < FEWEST:
        return math.nan, math.nan
    if (counted.counts == 1).all() and np.isin(counted.sums, (0.0, 100.0)).all():
        ends = stats.binomtest(int((counted.sums == 100.0).sum()), number).proportion_ci(LEVEL, method="wilson")
        return 100 * ends.low, 100 * ends.high
    low, high = _student(counted.linearised)
    return max(low, 0.0), min(high, 100.0)


def difference(scores: ItemScores, other: ItemScores, is_share: bool, seed: int = 0) -> tuple[float, float, float]:
    """Return how much more a model scores than another on the items of both, and the 95 % interval.

    Arguments are as of `interval`. The ends are NaN with fewer than 5 items.

    Raises:
        ValueError: if the items are not the same.
    """
    own, its = shared_items([scores, other])
    differences_N = own.linearised - its.linearised
    if len(differences_N) < FEWEST:
        return own.value - its.value, math.nan, math.nan
    ends = (
        _student(differences_N) if is_share else ratio_interval(differences_N, np.ones(len(differences_N)), seed=seed)
    )
    return own.value - its.value, *ends


def excess(
    scores: ItemScores, reference: ItemScores, factor: float, is_share: bool, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of how much more a model scores than `factor` times what it scores at another length.

    Losses on the same items are paired. Otherwise the intervals of both are joined as those of independent samples,
    which is Newcombe's for two shares and a factor of 1:

        d = R - factor R',    low = d - sqrt((R - R_low)^2 + factor^2 (R'_high - R')^2),    high likewise

    Other arguments are as of `interval`. The ends are NaN with fewer than 5 items at either length.

    Source: Zou and Donner, "Construction of confidence limits about effect measures" (2008), section 2; Newcombe,
        "Interval estimation for the difference between independent proportions" (1998), method 10.
    """
    if not is_share and scores.identity == reference.identity:
        own, its = shared_items([scores, replace(reference, length=scores.length)])
        differences_N = own.linearised - factor * its.linearised
        return ratio_interval(differences_N, np.ones(len(differences_N)), seed=seed)
    difference = scores.value - factor * reference.value
    low, high = interval(scores, is_share, seed)
    reference_low, reference_high = interval(reference, is_share, seed)
    return (
        difference - math.hypot(scores.value - low, factor * (reference_high - reference.value)),
        difference + math.hypot(high - scores.value, factor * (reference.value - reference_low)),
    )


def _student(values_N: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of a mean."""
    number = len(values_N)
    half = stats.t.ppf((1 + LEVEL) / 2, number - 1) * values_N.std(ddof=1) / math.sqrt(number)
    return values_N.mean() - half, values_N.mean() + half
