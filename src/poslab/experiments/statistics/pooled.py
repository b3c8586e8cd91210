"""Moderate the variance of seeds of a pair by that which the contestants of a case share.

E contestants, S seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import bartlett

from poslab.experiments.statistics.crossed import Estimate
from poslab.experiments.statistics.difference import Scores

MIN_CONTESTANTS = 3
"""Contestants of which a pooled variance says more than the variance of a pair."""

MIN_POOLED_SEEDS = 5
"""Seeds from which on variances are pooled. With fewer, no test finds that one is several times another."""

EQUAL = 0.25
"""p-value of Bartlett's test from which on variances are pooled."""


@dataclass(frozen=True)
class Pool:
    """The variance of a run that contestants share.

    The variance of a pair is moderated by it: the mean of both, weighted by their degrees of freedom d, which add.

        d_pool = min(d_pair, (df - d_pair) / 2)

    It never falls below the variance of the pair: one that is more noisy than others gains nothing by them. Both are
    fixed before the runs, where Smyth estimates d_pool from the variances, of which a case has too few.

    Args:
        variance: of a run, without what its seed adds to all contestants where seeds are blocks.

    Source: Smyth, "Linear models and empirical Bayes methods for assessing differential expression" (2004), section 4.
    """

    names: frozenset[str]
    variance: float
    df: int

    def applied(self, estimate: Estimate, seeds: int, baseline_seeds: int) -> Estimate:
        """Return the estimate of a difference with its variance of seeds moderated."""
        pooled, df = self.variance * (1 / seeds + 1 / baseline_seeds), estimate.seed_df
        prior = np.minimum(df, (self.df - df) / 2)
        variance = (prior * pooled + df * estimate.seed_variance) / (prior + df)
        return replace(estimate, seed_variance=np.maximum(variance, estimate.seed_variance), seed_df=prior + df)


def pool(scores: Mapping[str, Scores], baseline: str, paired: bool) -> Pool | None:
    """Return the variance that contestants share; None with few of them or few seeds, or where variances differ.

    They do by Bartlett's test, of runs or of residuals of blocks. Which of two layouts is taken is the caller's choice,
    and none of the data's:

        blocks:   x_es = mean_e + seed_s + residual_es,   (E - 1) (S - 1) degrees of freedom
        unpaired: x_es = mean_e + residual_es,            E (S - 1)

    Only contestants whose runs have all finished are pooled, as blocks (`paired`) only with the seeds of the baseline.
    """
    whole = {n: s for n, s in scores.items() if s.finished.all() and len(s.values) >= MIN_POOLED_SEEDS}
    if baseline not in whole:
        return None
    if paired:
        seeds = whole[baseline].seeds, len(whole[baseline].values)
        whole = {n: s for n, s in whole.items() if (s.seeds, len(s.values)) == seeds}
    if len(whole) < MIN_CONTESTANTS:
        return None
    rows = [of_contestant.values - of_contestant.mean for of_contestant in whole.values()]
    residuals = list(np.array(rows) - np.mean(rows, axis=0)) if paired else rows
    with np.errstate(divide="ignore", invalid="ignore"):  # runs may be equal
        if not all(bartlett(*layout).pvalue >= EQUAL for layout in (rows, residuals)):
            return None
    df = sum(map(len, rows)) - len(rows) - (len(rows[0]) - 1 if paired else 0)
    return Pool(frozenset(whole), sum(float((row**2).sum()) for row in residuals) / df, df)
