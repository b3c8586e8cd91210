"""Intervals of a metric over test items, and of the difference of two models on the same items.

Dimension letter: N items.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from poslab.evaluation.bootstrap import FEWEST, LEVEL, ratio_interval
from poslab.evaluation.item_scores import ItemScores, shared_items


def interval(scores: ItemScores, is_share: bool, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of a metric over new items; NaN with fewer than 5 of them.

    A loss has the studentised bootstrap. For a share it could be infinite, since resamples without an error have no
    spread: items that are right or wrong have Wilson's interval, others Student's within 0 to 100.

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


def _student(values_N: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of a mean."""
    number = len(values_N)
    half = stats.t.ppf((1 + LEVEL) / 2, number - 1) * values_N.std(ddof=1) / math.sqrt(number)
    return values_N.mean() - half, values_N.mean() + half
