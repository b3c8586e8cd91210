"""How far a mean could be off: bootstrap over documents, which are what was sampled; tokens of one hang together."""

from __future__ import annotations

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


def ratio_interval(
    sums: np.ndarray, counts: np.ndarray, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of `sum(sums) / sum(counts)` under resampling of documents with replacement.

    Args:
        sums, counts: (D,) of each document, such as its loss in nats and its tokens.
        resamples: how many samples are drawn.
        level: share of them within the interval, in (0, 1).
        seed: of the draws.

    Returns:
        Lower and upper end; NaN with fewer than two documents, which say nothing of how documents differ.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.
    """
    documents = counts > 0
    sums, counts = sums[documents].astype(np.float64), counts[documents].astype(np.float64)
    if len(sums) < 2:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    ratios = np.empty(resamples)
    for resample in range(resamples):
        drawn = generator.integers(len(sums), size=len(sums))
        ratios[resample] = sums[drawn].sum() / counts[drawn].sum()
    lower, upper = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return float(lower), float(upper)
