"""Verdicts on encodings relative to a baseline, on one case and metric.

E contestants, S seeds.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy.stats import bartlett
from statsmodels.stats.multitest import multipletests

from poslab.experiments.criteria import Direction
from poslab.experiments.statistics.crossed import Estimate, further_seeds, smallest_detectable
from poslab.experiments.statistics.difference import MIN_SEEDS, Difference, Scores, difference, in_pairs

ALPHA = 0.05  # probability that any encoding of a case is called better, worse or equivalent only by chance
MIN_CONTESTANTS = 3  # contestants of which a pooled variance says more than the variance of a pair

MIN_POOLED_SEEDS = 5
"""Seeds from which on variances are pooled. With fewer, no test finds that one is several times another."""

EQUAL = 0.25  # p-value of Bartlett's test from which on variances are pooled


class Word(StrEnum):
    """A verdict on an encoding relative to the baseline."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"
    NOT_LEARNED = "did not learn the task"
    DIVERGED = "diverged"
    ONE_SEED = "one seed"


@dataclass(frozen=True, eq=False)
class Verdict:
    """A word with its evidence."""

    word: Word
    # to the baseline; its interval is simultaneous with all other pairs' if the baseline is the best one
    difference: Difference
    # of "there is no difference", adjusted over the other encodings, or over all pairs; NaN without a test
    p_value: float
    beyond_margin: bool  # whether it is better or worse by more than the margin
    # of INCONCLUSIVE, seeds to add to find a difference of the margin with a power of 80%; None if there is no margin
    # or no number of seeds is enough
    further_seeds: int | None
    # of INCONCLUSIVE, the smallest true difference that the present seeds find with a power of 80%
    detectable: float | None = None
    p_alone: float = math.nan  # the p-value without an adjustment


@dataclass(frozen=True)
class Pool:
    """The variance of a run that contestants share.

    The variance of a pair is moderated by it: the mean of both, weighted by their degrees of freedom d, which add.

        d_pool = min(d_pair, (df - d_pair) / 2)

    It never falls below the variance of the pair: one that is more noisy than others gains nothing by them. Both are
    fixed before the runs, where Smyth estimates d_pool from the variances, of which a case has too few.

    Source: Smyth, "Linear models and empirical Bayes methods for assessing differential expression" (2004), section 4.
    """

    names: frozenset[str]
    variance: float  # of a run, without what its seed adds to all contestants where seeds are blocks
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


@dataclass(frozen=True, eq=False)
class _Comparison:
    """An encoding and the baseline, before any verdict."""

    scores: Scores
    baseline: Scores
    difference: Difference
    learned: bool

    @property
    def untested(self) -> Word | None:
        """Return the word if there is nothing to test."""
        if not self.learned:
            return Word.NOT_LEARNED
        if not self.scores.finished.any() or not self.baseline.finished.any():
            return Word.DIVERGED
        return Word.ONE_SEED if self.difference.estimate is None else None


def verdicts(
    scores: Mapping[str, Scores],
    baseline: str,
    direction: Direction,
    margin: float = 0.0,
    share: bool = False,
    paired: bool = True,
    not_learned: Collection[str] = (),
    given: bool = False,
    is_best: bool = False,
) -> dict[str, Verdict]:
    """Return the verdict on each encoding but the baseline.

    The variance of seeds is moderated by that which encodings share, if they do (`pool`). Holm's method adjusts
    p-values over the encodings, so that at most 5% of cases have an encoding that is called better or worse by chance.
    The same is true of "by more than the margin" and of "equivalent". A difference that is both beyond 0 and within the
    margin is equivalent. Encodings whose runs share fewer than 2 seeds with the baseline's are compared without pairs
    (Welch's test). If one of both has more diverged runs, the pairs that finished do not speak in its favour, nor for
    equivalence. ValueError if the seeds or items of two encodings do not fit.

    Args:
        scores: of each encoding; with their seeds, or of the same seeds in the same order for all if paired.
        baseline: name of the encoding to compare with.
        direction: whether small or large values are good.
        margin: difference that matters, in the metric's unit; 0 if none is declared.
        share: whether the metric is a share, 0 to 100, which bounds intervals. Its mean over seeds is compared, also
            where some seeds solve a task and others do not.
        paired: whether runs of the same seed are pairs.
        not_learned: encodings that have not passed the gate; they are not tested, and no adjustment counts them.
        given: as of `difference`.
        is_best: whether the baseline is the best one by these scores. It can be any, so that the intervals of all
            pairs have to be simultaneous: Tukey's method with the moderated variance, Bonferroni's without.
    """
    shared = pool({name: of_name for name, of_name in scores.items() if name not in not_learned}, baseline, paired)
    comparisons = {}
    for name in scores:
        if name == baseline:
            continue
        of_pair = in_pairs(scores[name], scores[baseline]) if paired else (scores[name], scores[baseline], False)
        scores_of_pair, baseline_of_pair, are_pairs = of_pair
        limit = 100.0 if share else math.inf
        gap = difference(scores_of_pair, baseline_of_pair, direction, are_pairs, limit, given)
        if shared is not None and name in shared.names and gap.estimate is not None:
            sizes = len(scores_of_pair.values), len(baseline_of_pair.values)
            gap = replace(gap, estimate=shared.applied(gap.estimate, *sizes))
        comparisons[name] = _Comparison(scores_of_pair, baseline_of_pair, gap, name not in not_learned)
    tested = [name for name, comparison in comparisons.items() if comparison.untested is None]
    alone = {name: comparison.difference.p_value for name, comparison in comparisons.items()}
    family = len(tested)
    if is_best:
        family = len(tested) * (len(tested) + 1) // 2
        for name in tested:
            gap = comparisons[name].difference
            assert gap.estimate is not None
            is_pooled = shared is not None and name in shared.names and len(tested) > 1
            means, tests = (len(tested) + 1, 1) if is_pooled else (0, family)
            gap = replace(gap, estimate=replace(gap.estimate, means=means, tests=tests))
            comparisons[name] = replace(comparisons[name], difference=gap)
    gaps = [comparisons[name].difference for name in tested]
    families = (
        [gap.p_value for gap in gaps],
        [gap.beyond_p_value(margin) for gap in gaps],
        [gap.equivalence_p_value(margin) for gap in gaps],
    )
    if not is_best and tested:
        families = tuple(holm(p_values).tolist() for p_values in families)
    adjusted = dict(zip(tested, zip(*families, strict=True), strict=True))
    return {
        name: _verdict(comparison, alone[name], adjusted.get(name), margin, family)
        for name, comparison in comparisons.items()
    }


def _verdict(
    comparison: _Comparison, p_alone: float, adjusted: tuple[float, float, float] | None, margin: float, family: int
) -> Verdict:
    """Return a verdict from p-values that are adjusted over a family of tests; they are None without a test."""
    gap = comparison.difference
    if adjusted is None:
        word = comparison.untested
        assert word is not None
        return Verdict(word, gap, math.nan, False, None, p_alone=p_alone)
    p_value, beyond, equivalent = adjusted
    if equivalent < ALPHA:
        word = Word.EQUIVALENT
    elif p_value < ALPHA:
        word = Word.BETTER if gap.gain > 0 else Word.WORSE
    else:
        word = Word.INCONCLUSIVE
    beyond_margin = word in (Word.BETTER, Word.WORSE) and margin > 0 and beyond < ALPHA
    surplus = comparison.scores.diverged - comparison.baseline.diverged
    if surplus and word in (Word.EQUIVALENT, Word.BETTER if surplus > 0 else Word.WORSE):
        return Verdict(Word.INCONCLUSIVE, gap, p_value, False, None, p_alone=p_alone)
    seeds = detectable = None
    if word is Word.INCONCLUSIVE:
        assert gap.estimate is not None
        alone = replace(gap.estimate, tests=1, means=0)
        has_seeds = gap.pairs >= MIN_SEEDS
        seeds = further_seeds(alone, gap.pairs, margin, ALPHA / family) if margin and has_seeds else None
        detectable = min(smallest_detectable(alone, ALPHA / family), gap.limit)
    return Verdict(word, gap, p_value, beyond_margin, seeds, detectable, p_alone)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values, each in [0, 1] and at least one, adjusted by Holm's method.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure (1979), by statsmodels.
    """
    gc.freeze()  # statsmodels collects garbage at each call: half a second after the imports of a report
    try:
        return np.asarray(multipletests(p_values, method="holm")[1])
    finally:
        gc.unfreeze()
