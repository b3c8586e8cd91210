"""Answers of a comparison in sentences: which encoding a case speaks for, and on what evidence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from poslab.comparison.comparison import Criterion
from poslab.comparison.results import Results
from poslab.comparison.statistics.solve_rate import solved
from poslab.comparison.statistics.verdict import Verdict, Word

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
        seeds: those of its runs that did not diverge.
        beside: verdicts on the others beside the best, by encoding.
        not_learned: encodings that have not passed the gate.
        solved: how many of how many seeds solve the case, by encoding, where the seeds of one split.
    """

    case: str
    criterion: Criterion
    best: str
    value: float
    seeds: int
    beside: Mapping[str, Verdict]
    not_learned: Sequence[str]
    solved: Mapping[str, str]

    @property
    def alike(self) -> list[str]:
        """Encodings that may be as good as the best: equal within the margin, or not clearly different."""
        return [name for name, verdict in self.beside.items() if verdict.word in ALIKE]

    @property
    def decides_nothing(self) -> bool:
        """True if the best score is 0, and no other encoding is clearly different."""
        is_zero = self.criterion.direction == "maximize" and self.value == 0
        return is_zero and len(self.alike) == len(self.beside)

    @property
    def ahead(self) -> list[str]:
        """Encodings that are better than the best mean, as pairs of seeds or solve rates can be."""
        return [name for name, verdict in self.beside.items() if verdict.word is Word.BETTER]

    def sentences(self, baseline: str) -> Iterator[str]:
        """Yield the answer and its evidence."""
        metric, better = in_words(self.criterion), "lower" if self.criterion.direction == "minimize" else "higher"
        shown = f"{self.value:.4g}, mean of {amount(self.seeds, 'seed')}; {better} is better"
        words = [verdict.word for verdict in self.beside.values()]
        if self.decides_nothing:
            yield nothing_scored(self.criterion)
        elif Word.ONE_SEED in words and not set(words) & {Word.WORSE, *ALIKE}:
            yield f"{self.best} has the best {metric} ({self.value:.4g}), which one seed cannot tell from luck."
        elif not self.beside:
            yield f"{self.best} alone has a result: {metric} {shown}."
        elif self.ahead:
            names = f"{listed(self.ahead)} {are(self.ahead)}"
            yield (
                f"{self.best} has the best mean {metric} ({shown}), but {names} better by the test of seeds: no "
                "encoding is clearly the one to take."
            )
        elif self.alike:
            yield f"{self.best} has the best {metric} ({shown}), but {self._as_good()}: choose among these by cost."
        else:
            others = "all others" if set(words) == {Word.WORSE} else "all others that can be compared with it"
            yield f"take {self.best}. Its {metric} ({shown}) is better than that of {others}."
        if baseline in self.beside and self.beside[baseline].word is Word.WORSE:
            yield self._ahead_of(baseline)
        if self.not_learned:
            yield f"{listed(self.not_learned)} {has(self.not_learned)} not learned the task."

    def _as_good(self) -> str:
        """Return which encodings may be as good as the best, and how sure that is."""
        parts = []
        if equal := [name for name in self.alike if self.beside[name].word is Word.EQUAL]:
            parts.append(f"{listed(equal)} {are(equal)} equal within the margin of {self.criterion.margin:.3g}")
        if unclear := [name for name in self.alike if name not in equal]:
            found = [size for name in unclear if (size := self.beside[name].detectable)]
            enough = f" (differences above {max(found):.2g} would probably have been found)" if found else ""
            parts.append(f"{listed(unclear)} {are(unclear)} not told apart from it{enough}")
        return " and ".join(parts)

    def _ahead_of(self, baseline: str) -> str:
        verdict = self.beside[baseline]
        if verdict.solve_rates is not None:
            return (
                f"{self.solved[self.best]} of its seeds solve the task, {self.solved[baseline]} of those of "
                f"{baseline}, the baseline."
            )
        low, high = sorted(abs(end) for end in verdict.difference.interval)
        return (
            f"It is {abs(verdict.difference.mean):.3g} better than {baseline}, the baseline "
            f"(95 % interval {low:.3g} to {high:.3g})."
        )


def answer(results: Results, case: str, criterion: Criterion) -> Answer | None:
    """Return what a case says on a metric; None where no encoding has learned."""
    if not (ranked := results.ranked(case, criterion)):
        return None
    best = ranked[0]
    beside = results.verdicts(case, criterion, best)
    values = {name: results.scores(case, criterion)[name].values for name in (best, *beside)}
    return Answer(
        case,
        criterion,
        best,
        results.mean(case, criterion, best),
        len(results.known_values(case, criterion, best)),
        beside,
        results.not_learned(case),
        {name: f"{solved(own).sum()} of {len(own)}" for name, own in values.items()},
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


def in_words(criterion: Criterion) -> str:
    """Return a metric in words: `exact match beyond the training length`, `bits per byte at 4 times ...`."""
    name, where = criterion.name.replace("_", " "), criterion.where
    if where.endswith("x"):
        times = "" if where == "1x" else f"{where[:-1]} times "
        return f"{name} at {times}the training length"
    places = {"": "", "beyond": " beyond the training length", "trained": " up to the training length"}
    return name + (places[where] if where in places else f" at length {int(where):,}")


def nothing_scored(criterion: Criterion) -> str:
    """Return the answer where the best score is 0."""
    return f"the best {in_words(criterion)} is 0, which decides nothing: train longer, or test shorter lengths."


def listed(names: Sequence[str]) -> str:
    """Return names in words: `a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def amount(count: int, noun: str) -> str:
    """Return `1 seed` or `5 seeds`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def are(names: Sequence[str]) -> str:
    """Return the verb after these names."""
    return "is" if len(names) == 1 else "are"


def has(names: Sequence[str]) -> str:
    """Return the verb after these names."""
    return "has" if len(names) == 1 else "have"
