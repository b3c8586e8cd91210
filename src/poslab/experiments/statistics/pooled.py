"""Moderate the variance of seeds of a pair by that which the contestants of a case share.

E contestants, S seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import fdtr
from scipy.stats import bartlett

from poslab.experiments.statistics.crossed import Estimate
from poslab.experiments.statistics.difference import MIN_SEEDS, Scores

MIN_CONTESTANTS = 3
"""Contestants of which a pooled variance says more than that of a pair."""

UNEQUAL = 0.05
"""Level of the tests of equal variance, below which variances are not pooled."""

SMALLER = 0.001
"""Level of the test that a pair has a smaller variance; with more, small ones by chance have false verdicts."""

PRIOR_DF = 4.0
"""Most degrees of freedom that the pooled variance counts next to that of a pair. With more, a pair whose variance is
three times that of others, which no test finds in 3 seeds, would too often have a false verdict."""


@dataclass(frozen=True)
class Pool:
    """The variance of a run that contestants share.

    That of a pair is moderated by it: the mean of both, weighted by their degrees of freedom d, which add.

        d_pool = min(4, (df - d_pair) / 2)

    The weight is fixed before the runs, where Smyth estimates it from the variances, of which a case has too few.

    Args:
        names: the contestants.
        variance: of a run, without what its seed adds to all contestants where seeds are blocks.
        df: its degrees of freedom.

    Source: Smyth, "Linear models and empirical Bayes methods for assessing differential expression" (2004), section 4.
    """

    names: frozenset[str]
    variance: float
    df: int

    def applied(self, estimate: Estimate, seeds: int, baseline_seeds: int) -> Estimate:
        """Return the estimate of a difference with its variance of seeds moderated.

        A pair whose variance is another by an F test keeps its own, as one of two that start from the same weights.
        """
        pooled, df = self.variance * (1 / seeds + 1 / baseline_seeds), float(estimate.seed_df)
        below = fdtr(df, self.df, float(estimate.seed_variance) / pooled)
        if not SMALLER <= below <= 1 - UNEQUAL:
            return estimate
        prior = prior_df(self.df, df)
        variance = (prior * pooled + df * estimate.seed_variance) / (prior + df)
        return replace(estimate, seed_variance=variance, seed_df=np.asarray(prior + df))


def prior_df(pooled: float, pair: float) -> float:
    """Return the degrees of freedom that the pooled variance counts, from its own and those of the pair."""
    return min(PRIOR_DF, max(pooled - pair, 0.0) / 2)


def pool(scores: Mapping[str, Scores], paired: bool) -> Pool | None:
    """Return the variance that most contestants share; None if fewer than 3 do.

    Those with the most extreme variance are left out, one after another, until Bartlett's test rejects no more, of runs
    and of residuals of blocks, and so are those without any spread. Which of two layouts is taken is the caller's
    choice, and none of the data's:

        blocks:   x_es = mean_e + seed_s + residual_es,   (E - 1) (S - 1) degrees of freedom
        unpaired: x_es = mean_e + residual_es,            E (S - 1)

    Args:
        scores: of the contestants; only those whose runs have all finished are pooled, as blocks those of equal seeds.
        paired: whether seeds are blocks.
    """
    whole = {n: s for n, s in scores.items() if s.finished.all() and len(s.values) >= MIN_SEEDS and s.values.std() > 0}
    if paired:
        seeds = {n: tuple(range(len(s.values)) if s.seeds is None else s.seeds) for n, s in whole.items()}
        most = Counter(seeds.values()).most_common(1)
        whole = {n: s for n, s in whole.items() if seeds[n] == most[0][0]}
    while len(whole) >= MIN_CONTESTANTS:
        layouts = [_residuals(whole, of_blocks) for of_blocks in sorted({False, paired})]
        with np.errstate(divide="ignore", invalid="ignore"):  # the runs of two may be equal
            unequal = next((rows for rows in layouts if bartlett(*rows).pvalue < UNEQUAL), None)
            logs = np.log([row.var(ddof=1) for row in unequal or layouts[-1]])
            farthest = list(whole)[np.abs(logs - logs.mean()).argmax()]
        if unequal is None:
            df = sum(map(len, layouts[-1])) - len(whole) - (len(layouts[-1][0]) - 1 if paired else 0)
            return Pool(frozenset(whole), sum(float((row**2).sum()) for row in layouts[-1]) / df, df)
        del whole[farthest]
    return None


def _residuals(scores: Mapping[str, Scores], of_blocks: bool) -> list[np.ndarray]:
    """Return what is left of each contestant's runs (S,) without its mean, and without those of seeds of blocks."""
    rows = [of_contestant.values - of_contestant.mean for of_contestant in scores.values()]
    return list(np.array(rows) - np.mean(rows, axis=0)) if of_blocks else rows
