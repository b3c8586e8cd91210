"""The section over all cases of a report, for comparisons of at least eight cases.

E encodings, S seeds, C cases.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from poslab.experiments.criteria import sign
from poslab.experiments.report import figures
from poslab.experiments.results import Results
from poslab.experiments.statistics import over_cases
from poslab.experiments.statistics.difference import Scores
from poslab.experiments.statistics.verdict import Word
from poslab.report.figures import Section, Table

THRESHOLDS = np.linspace(0, 1, 51)

TALLIED = (Word.BETTER, Word.EQUIVALENT, Word.WORSE, Word.INCONCLUSIVE, Word.NOT_LEARNED)
"""Verdicts that are counted over cases."""

DECIMALS = {"rank": 1, "score": 2, "chance": 2, "p": 4}


@dataclass(frozen=True)
class OverCases:
    """Results over the cases that have any, on the first metric of each, for the encodings that all cases compare."""

    results: Results

    @cached_property
    def cases(self) -> list[str]:
        """The cases with a seed of all encodings, of which one has positions at the lengths of the first metric."""
        return [case for case in self.results.comparison.cases if self._scores(case)]

    def _scores(self, case: str) -> dict[str, Scores]:
        return self.results.scores(case, self.results.comparison.criteria(case)[0])

    @property
    def enough(self) -> bool:
        """Return whether there are as many cases as a statement over cases needs."""
        return len(self.cases) >= over_cases.MIN_CASES and not self.results.comparison.has_sizes

    @cached_property
    def encodings(self) -> list[str]:
        comparison = self.results.comparison
        return [e for e in comparison.choices_by_encoding if all(e in comparison.encodings_of(c) for c in self.cases)]

    @cached_property
    def gains(self) -> np.ndarray:
        """The first metric (E, S, C), large is good; NaN where a run diverged, has no result or has not learned."""
        scores = {case: self._scores(case) for case in self.cases}
        seeds = min(
            len(scores_of_encoding.values) for of_case in scores.values() for scores_of_encoding in of_case.values()
        )
        gains = np.full((len(self.encodings), seeds, len(self.cases)), np.nan)
        for column, (case, of_case) in enumerate(scores.items()):
            factor = sign(self.results.comparison.criteria(case)[0].direction)
            for row, encoding in enumerate(self.encodings):
                if encoding in of_case and encoding not in self.results.not_learned(case):
                    gains[row, :, column] = factor * of_case[encoding].values[:seeds]
        return np.where(np.isfinite(gains), gains, np.nan)

    @cached_property
    def scores(self) -> np.ndarray:
        """The gains scaled in each case from the worst encoding, 0, to the best, 1: (E, S, C)."""
        return over_cases.normalised(self.gains)

    @cached_property
    def ranks(self) -> over_cases.Summary:
        """The mean rank of each encoding."""
        finished = np.isfinite(self.gains)
        means = np.where(finished, self.gains, 0).sum(1) / np.maximum(finished.sum(1), 1)
        return over_cases.mean_ranks(np.where(finished.any(1), means, np.nan))

    @cached_property
    def p_values(self) -> dict[str, float]:
        """The p-value of each encoding against the baseline by Wilcoxon's signed-rank test, adjusted by Holm."""
        means = self.scores.mean(1)
        others = [index for index, name in enumerate(self.encodings) if name != self.results.comparison.baseline]
        baseline = means[self.encodings.index(self.results.comparison.baseline)]
        p_values = over_cases.signed_rank_p_values(means[others] - baseline)
        return {self.encodings[index]: float(p_value) for index, p_value in zip(others, p_values, strict=True)}

    def section(self, styles: figures.Styles) -> Section:
        """Return the section of the report."""
        caption = (
            f"The first columns count cases by verdict next to {self.results.comparison.baseline}. "
            "Rank 1 is the best; an encoding without a result, or that has not learned the case, is last. A score is "
            "0 at the mean of the worst encoding of a case and 1 at the mean of the best; shown is the mean of the "
            "middle half of all runs. The chance is that a run beats one of the baseline. p is of Wilcoxon's "
            "signed-rank test over cases, adjusted by Holm's method. Intervals are at 95%."
        )
        scores = zip(self.encodings, self.scores, strict=True)
        profiles = {name: over_cases.performance_profile(of_encoding, THRESHOLDS) for name, of_encoding in scores}
        return Section(
            "Over all cases",
            f"Each of the {len(self.cases)} cases counts once, with its first metric.",
            [
                Table("over_cases", "Ranks and scores", caption, self.frame(), decimals=DECIMALS),
                figures.profile("profile", THRESHOLDS, profiles, styles),
            ],
        )

    def frame(self) -> pd.DataFrame:
        """Return a row for each encoding, the best rank first."""
        comparison, rows = self.results.comparison, []
        baseline = self.scores[self.encodings.index(comparison.baseline)]
        firsts = {case: comparison.criteria(case)[0] for case in self.cases}
        of_cases = [self.results.verdicts(case, first, comparison.baseline) for case, first in firsts.items()]
        for index, name in enumerate(self.encodings):
            row: dict[str, object] = {"encoding": name}
            if name != comparison.baseline:
                words = [verdicts[name].word for verdicts in of_cases if name in verdicts]
                row |= {str(word): words.count(word) for word in TALLIED}
            middle = over_cases.interquartile_mean(self.scores[index])
            row |= {"rank": self.ranks.value[index], "rank interval": _span(self.ranks, index, 1)}
            row |= {"score": float(middle.value), "score interval": _span(middle, (), 2)}
            if name != comparison.baseline:
                chance = over_cases.probability_of_improvement(self.scores[index], baseline)
                row |= {"chance": float(chance.value), "chance interval": _span(chance, (), 2)}
                row |= {"p": self.p_values[name]}
            rows.append(row)
        order = ("encoding", *map(str, TALLIED))
        frame = pd.DataFrame(rows).sort_values("rank", kind="stable")
        return frame[[*order, *(name for name in frame.columns if name not in order)]]


def corpora_table(results: Results) -> Table | None:
    """Return what a new corpus may show of each encoding by each metric of all cases; None unless cases are corpora."""
    comparison, rows = results.comparison, []
    cases = [case for case in comparison.cases if results.is_comparable(case)]
    if comparison.cases_are != "corpora" or len(cases) < over_cases.MIN_CORPORA or comparison.has_sizes:
        return None
    for criterion in comparison.criteria(cases[0]):
        declared = [case for case in cases if criterion in comparison.criteria(case)]
        known = [results.verdicts(case, criterion, comparison.baseline) for case in declared]
        for encoding in comparison.choices_by_encoding:
            gaps = [verdicts[encoding].difference for verdicts in known if encoding in verdicts]
            tested = [(gap, gap.estimate) for gap in gaps if gap.estimate is not None]
            if len(tested) >= over_cases.MIN_CORPORA:
                differences = np.array([gap.mean for gap, _ in tested])
                variances = np.array([float(estimate.error) ** 2 for _, estimate in tested])
                seeds = float(np.mean([gap.pairs for gap, _ in tested]))
                row = {"encoding": encoding, "metric": criterion.metric, "corpora": len(tested)}
                rows.append({**row, **over_cases.new_corpus(differences, variances, seeds)})
    caption = (
        f"Mean difference to {comparison.baseline} over corpora; low and high are the 95% prediction interval of what "
        "a new corpus shows with as many seeds. The last columns are standard deviations: of the true differences of "
        "corpora, and of the difference of a pair of runs on the same corpus."
    )
    return Table("new_corpus", "A new corpus", caption, pd.DataFrame(rows)) if rows else None


def _span(summary: over_cases.Summary, index: int | tuple[()], decimals: int) -> str:
    """Return an interval in words; "" where there is none."""
    low, high = float(summary.low[index]), float(summary.high[index])
    return f"{low:.{decimals}f}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{high:.{decimals}f}" if np.isfinite(low) else ""
