"""Put the comparison of encodings with a baseline, on one case and metric, into words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from poslab.experiments.direction import Direction
from poslab.experiments.statistics.difference import Difference, Scores, difference, in_pairs
from poslab.experiments.statistics.holm import holm
from poslab.experiments.statistics.power import further_seeds, smallest_detectable
from poslab.experiments.statistics.solve_rate import (
    RateDifference,
    rate_difference,
    seeds_split,
    solve_p_value,
    solve_rate,
    solved,
)

ALPHA = 0.05
"""Probability that any encoding of a case is called better, worse or equivalent by chance alone."""


class Word(StrEnum):
    """A verdict on an encoding beside the baseline."""

    BETTER = "better"
    WORSE = "worse"
    EQUAL = "equivalent within the margin"
    NOT_TOLD_APART = "inconclusive"
    NOT_LEARNED = "not learned"
    DIVERGED = "diverged"
    ONE_SEED = "one seed"


@dataclass(frozen=True, eq=False)
class Verdict:
    """A word with its evidence.

    Args:
        word: the verdict.
        difference: to the baseline.
        p_value: of "there is no difference", by Holm over the encodings beside the baseline, or over all pairs; NaN
            without a test.
        beyond_margin: whether it is better or worse by more than the margin.
        further_seeds: of NOT_TOLD_APART, seeds to add to find a difference of the margin with a power of 80 %; None if
            there is no margin or no number of seeds is enough.
        diverged: number of runs that diverged.
        text: the verdict and its evidence as part of a sentence.
        detectable: of NOT_TOLD_APART, the smallest true difference that the present seeds find with a power of 80 %;
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
    text: str
    detectable: float | None = None
    solve_rates: RateDifference | None = None
    p_alone: float = math.nan

    @property
    def compared(self) -> tuple[float, float, float]:
        """Return the difference that decides, and the ends of its 95 % interval: of means or of solve rates."""
        if (rates := self.solve_rates) is not None:
            return rates.mean, rates.low, rates.high
        return (self.difference.mean, *self.difference.interval)

    def beside(self, baseline: str) -> str:
        """Return the text, in which the encoding to which this one is compared has its name."""
        return self.text.replace("the baseline", baseline)


@dataclass(frozen=True, eq=False)
class _Comparison:
    """An encoding beside the baseline, before any verdict."""

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
        return surplus != 0 and word in (Word.EQUAL, Word.BETTER if surplus > 0 else Word.WORSE)

    def p_values(self) -> tuple[float, float, float]:
        """Return the p-values of no difference, of one within the margin and of one beyond it."""
        if self.split:
            return solve_p_value(self.scores.values, self.baseline.values, self.difference.paired), 1.0, 1.0
        found = self.difference
        return found.p_value, found.beyond_p_value(self.margin), found.equivalence_p_value(self.margin)


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

    The words follow from p-values that Holm's method adjusts over the encodings, so that at most 5 % of cases have an
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
            scores: over the encodings beside it alone, more than 5 % of cases without a difference have one that is
            worse than the best.

    Raises:
        ValueError: if the seeds or items of two encodings do not fit.
    """
    pairs = [(name, baseline) for name in scores if name != baseline]
    if all_pairs:
        pairs += itertools.combinations([name for name, _ in pairs if name not in not_learned], 2)
    comparisons = {}
    for name, other in pairs:
        ours, theirs, are_pairs = in_pairs(scores[name], scores[other])
        found = difference(ours, theirs, direction, paired and are_pairs)
        learned = (name not in not_learned, other not in not_learned)
        comparisons[name, other] = _Comparison(ours, theirs, found, share, margin, *learned)
    tested = [pair for pair, comparison in comparisons.items() if comparison.untested is None]
    alone = [comparisons[pair].p_values() for pair in tested]
    families = [holm(p_values).tolist() for p_values in zip(*alone, strict=True)]
    adjusted = dict(zip(tested, zip(*families, strict=True), strict=True))
    family = (len(tested), "pairs" if all_pairs else "encodings")
    return {
        name: _tested(comparison, adjusted[name, other], *family)
        if (name, other) in adjusted
        else _untested(comparison)
        for (name, other), comparison in comparisons.items()
        if other == baseline
    }


def _untested(comparison: _Comparison) -> Verdict:
    scores, baseline, word = comparison.scores, comparison.baseline, comparison.untested
    assert word is not None
    if word is Word.NOT_LEARNED:
        text = "not learned: it has not passed the gate"
    elif word is Word.DIVERGED:
        text = "diverged: all its runs" if not scores.finished.any() else "diverged: all runs of the baseline"
    elif max(len(scores.values), len(baseline.values)) == 1:
        text = "one seed: cannot be told from luck"
    else:
        pairs = comparison.difference.pairs
        unit = "pair of seeds" if comparison.difference.paired else "seed of one of both"
        text = f"{'one' if pairs else 'no'} {unit} finished: cannot be told from luck"
    text += _reservations(comparison)
    found = comparison.difference
    return Verdict(word, found, math.nan, False, None, scores.diverged, text, p_alone=found.p_value)


def _tested(comparison: _Comparison, adjusted: tuple[float, float, float], family: int, unit: str) -> Verdict:
    p_value, beyond, equivalent = adjusted
    if equivalent < ALPHA:
        word = Word.EQUAL
    elif p_value < ALPHA:
        word = Word.BETTER if comparison.ahead > 0 else Word.WORSE
    else:
        word = Word.NOT_TOLD_APART
    beyond_margin = word in (Word.BETTER, Word.WORSE) and comparison.margin > 0 and beyond < ALPHA
    seeds = detectable = None
    if comparison.leaves_out_failures(word):
        text = f"inconclusive: {word} in the pairs that finished ({_figures(comparison)}), which leaves out failures"
        word, beyond_margin = Word.NOT_TOLD_APART, False
    elif word is Word.NOT_TOLD_APART:
        seeds, remedy = _remedy(comparison, family)
        detectable = _detectable(comparison, family)
        enough = f" (enough to find a difference of {detectable:.3g})" if detectable else ""
        text = f"inconclusive: {_figures(comparison)}{enough}{_holm(comparison, p_value, f'{family} {unit}')}{remedy}"
    elif word is Word.EQUAL:
        text = f"equivalent within the margin of {comparison.margin:.3g}: {_figures(comparison, 0.9)}"
    else:
        by = f" by more than the margin of {comparison.margin:.3g}" if beyond_margin else ""
        text = f"{word}{by}: {_figures(comparison)}"
    text += _reservations(comparison)
    return Verdict(
        word,
        comparison.difference,
        p_value,
        beyond_margin,
        seeds,
        comparison.scores.diverged,
        text,
        detectable,
        rate_difference(comparison.scores.values, comparison.baseline.values) if comparison.split else None,
        comparison.p_values()[0],
    )


def _detectable(comparison: _Comparison, family: int) -> float | None:
    """Return the smallest difference that such a comparison finds; None if it compares solve rates."""
    if comparison.split:
        return None
    assert comparison.difference.estimate is not None
    return smallest_detectable(comparison.difference.estimate, ALPHA / family)


def _figures(comparison: _Comparison, level: float = 0.95) -> str:
    """Return the difference with its interval, or both solve rates."""
    if comparison.split:
        rates = [solve_rate(scores.values) for scores in (comparison.scores, comparison.baseline)]
        ours, theirs = (
            f"{rate.solved} of {rate.seeds} seeds ({100 * rate.interval[0]:.0f} to {100 * rate.interval[1]:.0f} %)"
            for rate in rates
        )
        return f"solved by {ours}, the baseline by {theirs}"
    found = comparison.difference
    assert found.estimate is not None
    low, high = found.estimate.interval(level)
    unit = "pairs of seeds" if found.paired else "seeds, not paired"
    return f"{found.mean:+.3g}, {100 * level:.0f} % interval {low:+.3g} to {high:+.3g}, {found.pairs} {unit}"


def _holm(comparison: _Comparison, adjusted: float, family: str) -> str:
    """Return a note where the p-value is small alone but not among all that are tested."""
    alone = comparison.p_values()[0]
    return f"; p = {alone:.2g} alone, {adjusted:.2g} among {family}" if alone < ALPHA <= adjusted else ""


def _remedy(comparison: _Comparison, family: int) -> tuple[int | None, str]:
    """Return the number of seeds that would find a difference of the margin, and the advice in words."""
    found, margin, alpha = comparison.difference, comparison.margin, ALPHA / family
    if comparison.split:
        least = max(0, math.ceil(1 - math.log2(alpha)) - len(comparison.scores.values))  # 2 / 2^seeds <= alpha
        return least, f"; an exact test needs at least {_more(least)}" if least else ""
    if not margin:
        return None, ""
    assert found.estimate is not None
    seeds = further_seeds(found.estimate, found.pairs, margin, alpha)
    if seeds is None:
        remedy = "more test examples" if found.estimate.item_variance else "a larger margin"
        return None, f"; a difference of {margin:.3g} needs {remedy}, not more seeds"
    if not seeds:
        return 0, f"; a difference of {margin:.3g} would probably have been found"
    return seeds, f"; about {_more(seeds)} would find a difference of {margin:.3g}"


def _more(seeds: int) -> str:
    return f"{seeds:,} more {'seed' if seeds == 1 else 'seeds'}"


def _reservations(comparison: _Comparison) -> str:
    """Return what has to be said beside any word: runs that diverged, a baseline that has not learned."""
    ours, theirs = comparison.scores, comparison.baseline
    text = ""
    if ours.diverged or theirs.diverged:
        text += f"; {ours.diverged} of {len(ours.values)} runs diverged, of the baseline's "
        text += f"{theirs.diverged} of {len(theirs.values)}"
    return text if comparison.baseline_learned else f"{text}; the baseline has not passed the gate"
