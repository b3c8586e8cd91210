"""Answers of a comparison in sentences: which encoding a case speaks for, and on what evidence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from poslab.comparison.comparison import Criterion
from poslab.comparison.results import Results
from poslab.comparison.verdict import Verdict, Word

ALIKE = (Word.EQUAL, Word.NOT_TOLD_APART)

COST_METRICS = {
    "parameters": "parameters",
    "train_tokens_per_second": "train/tokens_per_second",
    "seconds": "train/seconds",
    "memory": "memory/peak_mb",
}
"""Metric of a run behind each cost."""

MORE_IS_BETTER = ("train_tokens_per_second",)


@dataclass(frozen=True)
class Answer:
    """The answer of a case on one metric.

    Args:
        case, criterion: of the answer.
        best: encoding with the best mean among those that have learned.
        value: its mean.
        seeds: that all encodings share.
        beside: verdicts on the others beside the best, by encoding.
        alike: encodings that may be as good as the best: equal within the margin, or not clearly different.
        not_learned: encodings that have not passed the gate.
    """

    case: str
    criterion: Criterion
    best: str
    value: float
    seeds: int
    beside: Mapping[str, Verdict]
    alike: Sequence[str]
    not_learned: Sequence[str]

    def sentences(self, baseline: str) -> Iterator[str]:
        """Yield the answer and its evidence."""
        shown = f"{self.criterion.metric} {self.value:.4g}, mean of {self.seeds} seed{'s' if self.seeds != 1 else ''}"
        if self.seeds < 2:
            yield f"{self.case}: {self.best} has the best value ({shown}), which one seed cannot tell from luck."
            return
        if all(verdict.word is Word.WORSE for verdict in self.beside.values()):
            yield f"{self.case}: take {self.best} ({shown}); it is better than all others here."
        elif not self.alike:
            yield f"{self.case}: take {self.best} ({shown}); it is better than all others that can be compared with it."
        else:
            yield (
                f"{self.case}: {self.best} has the best mean ({shown}), and {listed(self.alike)} "
                f"{'are' if len(self.alike) > 1 else 'is'} not told apart from it: choose among these by cost."
            )
        if baseline in self.beside and baseline not in self.alike:
            low, high = sorted(-end for end in self.beside[baseline].difference.interval)
            difference = -self.beside[baseline].difference.mean
            yield (f"Its difference to {baseline} is {difference:+.3g} (95 % interval from {low:+.3g} to {high:+.3g}).")
        if self.not_learned:
            yield f"{listed(self.not_learned)} {'have' if len(self.not_learned) > 1 else 'has'} not learned it."


def answer(results: Results, case: str, criterion: Criterion) -> Answer | None:
    """Return what a case says on a metric; None where no encoding has learned."""
    best = results.best(case, criterion)
    if best is None:
        return None
    beside = results.verdicts(case, criterion, best)
    return Answer(
        case,
        criterion,
        best,
        results.scores(case, criterion)[best].mean,
        len(results.seeds(case, best)),
        beside,
        [name for name, verdict in beside.items() if verdict.word in ALIKE],
        results.not_learned(case),
    )


def answers(results: Results) -> list[Answer]:
    """Return what each case says on its first metric."""
    found = (answer(results, case, results.comparison.criteria(case)[0]) for case in results.comparison.cases)
    return [one for one in found if one is not None]


def cost(results: Results, case: str, encoding: str, name: str) -> float:
    """Return the mean cost of the runs of an encoding on a case; NaN where none has it."""
    values = [
        r.metrics[COST_METRICS[name]]
        for _, r in results.runs(case, encoding).values()
        if COST_METRICS[name] in r.metrics
    ]
    return sum(values) / len(values) if values else math.nan


def listed(names: Sequence[str]) -> str:
    """Return names in words: `a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
