"""Verdicts on encodings relative to a baseline, on one case and metric."""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from statsmodels.stats.multitest import multipletests

from poslab.experiments.criteria import Direction
from poslab.experiments.statistics.difference import Difference, Scores, difference, in_pairs
from poslab.experiments.statistics.power import further_seeds, smallest_detectable
from poslab.experiments.statistics.solve_rate import (
    RateDifference,
    rate_difference,
    seeds_split,
    solve_p_value,
    solved,
)

ALPHA = 0.05
"""Probability that any encoding of a case is called better, worse or equivalent by chance alone."""


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
    """A word with its evidence.

    Args:
        word: the verdict.
        difference: to the baseline.
        p_value: of "there is no difference", by Holm over the other encodings, or over all pairs; NaN
            without a test.
        beyond_margin: whether it is better or worse by more than the margin.
        further_seeds: of INCONCLUSIVE, seeds to add to find a difference of the margin with a power of 80%; None if
            there is no margin or no number of seeds is enough.
        diverged: number of runs that diverged.
        detectable: of INCONCLUSIVE, the smallest true difference that the present seeds find with a power of 80%;
            None if solve rates are compared.
        solve_rates: the difference of solve rates, where these are compared since the seeds of one of both split.
        p_alone: the p-value of the same test without Holm; without a test, that of the means.
    """

    word: Word
    difference: Difference
    p_value: float
    beyond_margin: bool
    further_seeds: int | None
    diverged: int
    detectable: float | None = None
    solve_rates: RateDifference | None = None
    p_alone: float = math.nan

    @property
    def compared(self) -> tuple[float, float, float]:
        """Return the difference that decides, and the ends of its 95% interval: of means or of solve rates."""
        if (rates := self.solve_rates) is not None:
            return rates.mean, rates.low, rates.high
        return (self.difference.mean, *self.difference.interval)


@dataclass(frozen=True, eq=False)
class _Comparison:
    """An encoding and the baseline, before any verdict."""

    scores: Scores
    baseline: Scores
    difference: Difference
    share: bool
    margin: float
    learned: bool
    baseline_learned: bool

    @property
    def split(self) -> bool:
        """Return whether solve rates are compared, since the seeds of one of both split; more must be better."""
        return (
            self.share
            and self.difference.direction == "maximize"
            and (seeds_split(self.scores.values) or seeds_split(self.baseline.values))
        )

    @property
    def untested(self) -> Word | None:
        """Return the word if there is nothing to test."""
        if not self.learned:
            return Word.NOT_LEARNED
        if not self.scores.finished.any() or not self.baseline.finished.any():
            return Word.DIVERGED
        return Word.ONE_SEED if self.difference.estimate is None and not self.split else None

    @property
    def ahead(self) -> float:
        """Return a number above 0 where the encoding is ahead of the baseline."""
        if not self.split:
            return self.difference.gain
        return float(solved(self.scores.values).mean() - solved(self.baseline.values).mean())

    def leaves_out_failures(self, word: Word) -> bool:
        """Return whether a word would speak for the one that has more diverged runs, or call both equal."""
        surplus = 0 if self.split else self.scores.diverged - self.baseline.diverged
        return surplus != 0 and word in (Word.EQUIVALENT, Word.BETTER if surplus > 0 else Word.WORSE)

    def p_values(self) -> tuple[float, float, float]:
        """Return the p-values of no difference, of one within the margin and of one beyond it."""
        if self.split:
            return solve_p_value(self.scores.values, self.baseline.values, self.difference.paired), 1.0, 1.0
        difference = self.difference
        return difference.p_value, difference.beyond_p_value(self.margin), difference.equivalence_p_value(self.margin)


def verdicts(
    scores: Mapping[str, Scores],
    baseline: str,
    direction: Direction,
    margin: float = 0.0,
    share: bool = False,
    paired: bool = True,
    not_learned: Collection[str] = (),
    all_pairs: bool = False,
) -> dict[str, Verdict]:
    """Return the verdict on each encoding but the baseline.

    The words follow from p-values that Holm's method adjusts over the encodings, so that at most 5% of cases have an
    encoding that is called better or worse by chance. The same holds for "by more than the margin" and for "equal".
    Encodings whose runs share fewer than 2 seeds with the baseline's are compared without pairs (Welch's test).
    A difference that is both beyond 0 and within the margin is equal. If seeds split, the exact test of solve rates
    takes the place of the test of means. If one of both has more diverged runs, the pairs that finished do not speak
    in its favour, nor for equality.

    Args:
        scores: of each encoding; with their seeds, or of the same seeds in the same order for all if paired.
        baseline: name of the encoding to compare with.
        direction: whether small or large values are good.
        margin: difference that matters, in the metric's unit; 0 if none is declared.
        share: whether the metric is a share, 0 to 100, so that seeds may split into solved and not solved.
        paired: whether runs of the same seed are pairs.
        not_learned: encodings that have not passed the gate; they are not tested, and Holm does not count them.
        all_pairs: whether Holm adjusts over all pairs of encodings. It must where the baseline is the best one by these
            scores: over only the pairs with it, more than 5% of cases without a difference have one that is
            worse than the best.

    Raises:
        ValueError: if the seeds or items of two encodings do not fit.
    """
    pairs = [(name, baseline) for name in scores if name != baseline]
    if all_pairs:
        pairs += itertools.combinations([name for name, _ in pairs if name not in not_learned], 2)
    comparisons = {}
    for name, other in pairs:
        scores_of_pair, baseline_of_pair, are_pairs = in_pairs(scores[name], scores[other])
        pair_difference = difference(scores_of_pair, baseline_of_pair, direction, paired and are_pairs)
        learned = (name not in not_learned, other not in not_learned)
        comparisons[name, other] = _Comparison(
            scores_of_pair, baseline_of_pair, pair_difference, share, margin, *learned
        )
    tested = [pair for pair, comparison in comparisons.items() if comparison.untested is None]
    alone = [comparisons[pair].p_values() for pair in tested]
    families = [holm(p_values).tolist() for p_values in zip(*alone, strict=True)]
    adjusted = dict(zip(tested, zip(*families, strict=True), strict=True))
    return {
        name: _verdict(comparison, adjusted.get((name, other)), len(tested))
        for (name, other), comparison in comparisons.items()
        if other == baseline
    }


def _verdict(comparison: _Comparison, adjusted: tuple[float, float, float] | None, family: int) -> Verdict:
    """Return a verdict from p-values that are adjusted over a family of tests; they are None without a test."""
    if adjusted is None:
        word, diverged = comparison.untested, comparison.scores.diverged
        assert word is not None
        alone = comparison.difference.p_value
        return Verdict(word, comparison.difference, math.nan, False, None, diverged, p_alone=alone)
    p_value, beyond, equivalent = adjusted
    if equivalent < ALPHA:
        word = Word.EQUIVALENT
    elif p_value < ALPHA:
        word = Word.BETTER if comparison.ahead > 0 else Word.WORSE
    else:
        word = Word.INCONCLUSIVE
    beyond_margin = word in (Word.BETTER, Word.WORSE) and comparison.margin > 0 and beyond < ALPHA
    seeds = detectable = None
    if comparison.leaves_out_failures(word):
        word, beyond_margin = Word.INCONCLUSIVE, False
    elif word is Word.INCONCLUSIVE:
        seeds, estimate = _further_seeds(comparison, family), comparison.difference.estimate
        if not comparison.split and estimate is not None:
            detectable = smallest_detectable(estimate, ALPHA / family)
    return Verdict(
        word,
        comparison.difference,
        p_value,
        beyond_margin,
        seeds,
        comparison.scores.diverged,
        detectable,
        rate_difference(comparison.scores.values, comparison.baseline.values) if comparison.split else None,
        comparison.p_values()[0],
    )


def _further_seeds(comparison: _Comparison, family: int) -> int | None:
    """Return the number of seeds that would find a difference of the margin, or that an exact test needs."""
    difference, alpha = comparison.difference, ALPHA / family
    if comparison.split:
        return max(0, math.ceil(1 - math.log2(alpha)) - len(comparison.scores.values))  # 2 / 2^seeds <= alpha
    if not comparison.margin:
        return None
    assert difference.estimate is not None
    return further_seeds(difference.estimate, difference.pairs, comparison.margin, alpha)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values, each in [0, 1] and at least one, adjusted by Holm's method.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure (1979), by statsmodels.
    """
    gc.freeze()  # statsmodels collects garbage at each call: half a second after the imports of a report
    try:
        return np.asarray(multipletests(p_values, method="holm")[1])
    finally:
        gc.unfreeze()
