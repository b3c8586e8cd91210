"""Predict the differences that more seeds would find."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from scipy.special import nctdtrinc
from scipy.stats import norm

from poslab.experiments.statistics.crossed import Estimate

POWER = 0.8

MAX_SEEDS = 10**6
"""Seeds above which no difference is looked for."""

MANY_ITEMS = 100.0
"""Degrees of freedom of items in a comparison that is not yet run."""


def smallest_detectable(estimate: Estimate, alpha: float = 0.05) -> float:
    """Return the smallest true difference that such a comparison finds with a power of 80%, in the metric's unit.

    It is the noncentrality at which Student's t exceeds its critical value with that probability, times the standard
    error; 0 without an error. For a metric that is far from normal it is an approximation. `alpha` is the level of the
    two-sided test, in (0, 1).
    """
    error = float(estimate.error)
    if not error:
        return 0.0
    critical = float(estimate.half_width(1 - alpha)) / error
    return float(nctdtrinc(np.minimum(estimate.df, 1e6), 1 - POWER, critical)) * error


def detectable_in_advance(variance: float, item_variance: float, seeds: int, contestants: int, paired: bool) -> float:
    """Return the smallest difference to the baseline that a comparison is to find with a power of at least 80%.

    Each pair has its own variance here, since only the runs can show that the variances may be pooled.

    Args:
        variance: of a run, from seeds.
        item_variance: squared standard error of a difference, from items.
        seeds: their number, at least 2; `paired` if they are blocks.
        contestants: the encodings, the baseline among them, over which Holm's first step divides the level.
    """
    df = np.asarray((2 - paired) * (seeds - 1))
    expected = Estimate(np.zeros(()), np.asarray(2 * variance / seeds), df, np.asarray(item_variance), MANY_ITEMS)
    return smallest_detectable(expected, 0.05 / (contestants - 1))


def further_seeds(estimate: Estimate, seeds: int, margin: float, alpha: float = 0.05) -> int | None:
    """Return how many more seeds find a difference of the margin, in the metric's unit, with a power of 80%.

    The estimate is from `seeds` seeds of each encoding, at least 2, and `alpha` as of `smallest_detectable`.

    Returns:
        0 if the present seeds do; None if no number of seeds does, because the items are too few.
    """
    unlimited = (norm.isf(alpha / 2) + norm.ppf(POWER)) * float(np.sqrt(estimate.item_variance))
    if unlimited >= margin:
        return None
    counts = range(seeds, MAX_SEEDS)

    def finds(count: int) -> bool:
        return smallest_detectable(estimate.with_seeds(count / seeds, seeds), alpha) <= margin

    enough = bisect_left(counts, True, key=finds)
    return enough if enough < len(counts) else None
