"""Bootstrap intervals of a mean over documents, the units that were sampled: tokens of one are correlated."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

RESAMPLES = 2000
LEVEL = 0.95

FEWEST = 5
"""Documents needed for an interval: with fewer, too many resamples hold one document alone."""

ROUNDING = 1e-9
"""Error of a resample, as a share of that of all documents, below which it is one of rounding."""


def ratio_interval(
    sums: np.ndarray, counts: np.ndarray, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> tuple[float, float]:
    """Return the studentised bootstrap interval of `sum(sums) / sum(counts)`.

    Documents are drawn with replacement. The pivot of a resample R* is `t = (R* - R) / se*`, where `se` is the error of
    a ratio to first order, `sqrt(D / (D - 1) sum (s - R c)^2) / sum c`; the interval reaches from `R - t_high se` to
    `R - t_low se`. For few documents with skewed losses its coverage is closer to `level` than that of percentiles, BCa
    or Student's t: `python benchmarks/interval_coverage.py`. Where an end would be infinite, because too many resamples
    hold documents that are alike, both are those of Student's t.

    Args:
        sums, counts: (D,) of each document, such as its loss in nats and its tokens.
        resamples: number of samples.
        level: share of intervals that hold the true ratio, in (0, 1).
        seed: of the draws.

    Returns:
        Lower and upper end; NaN with fewer than 5 documents, which reveal little of how documents differ.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), section 12.5; Cochran, "Sampling
        Techniques" (1977), section 6.4, for the error.
    """
    documents = counts > 0
    sums, counts = sums[documents].astype(np.float64), counts[documents].astype(np.float64)
    if len(sums) < FEWEST:
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
    low, high = np.quantile(pivots, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    if math.isinf(low) or math.isinf(high):
        low, high = stats.t.interval(level, len(sums) - 1)
    return ratio - high * error, ratio - low * error


def _ratio_and_error(sums: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    total = counts.sum()
    ratio = sums.sum() / total
    residuals = sums - ratio * counts
    return float(ratio), float(math.sqrt(len(sums) / (len(sums) - 1) * (residuals @ residuals)) / total)
