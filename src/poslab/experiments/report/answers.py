"""Answers of a comparison in sentences: which encoding a case speaks for, and on what evidence."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from poslab.experiments.criteria import Criterion
from poslab.experiments.direction import better
from poslab.experiments.metrics import is_share
from poslab.experiments.results import Results
from poslab.experiments.statistics.solve_rate import solved
from poslab.experiments.statistics.verdict import Verdict, Word
from poslab.report.sentences import amount, are, has, listed

ALIKE = (Word.EQUAL, Word.NOT_TOLD_APART)


@dataclass(frozen=True)
class Answer:
    """The answer of a case on one metric.

    Args:
        case, criterion: of the answer.
        best: encoding with the best mean among those that have learned in several seeds, or in one if none has.
        means: of the encodings that have learned.
        seeds: those of the runs of the best that did not diverge.
        beside: verdicts on the others beside the best, by encoding.
        not_learned: encodings that have not passed the gate.
        solved: how many of how many seeds solve the case, by encoding, where the seeds of one split.
        most: largest difference that values of the metric can have; infinity if they have no bounds.
    """

    case: str
    criterion: Criterion
    best: str
    means: Mapping[str, float]
    seeds: int
    beside: Mapping[str, Verdict]
    not_learned: Sequence[str]
    solved: Mapping[str, str]
    most: float

    def worded(self, *words: Word) -> list[str]:
        """Return the encodings with one of these verdicts beside the best."""
        return [name for name, verdict in self.beside.items() if verdict.word in words]

    @property
    def alike(self) -> list[str]:
        """Encodings that are equivalent to the best, or inconclusive next to it."""
        return self.worded(*ALIKE)

    @property
    def ahead(self) -> list[str]:
        """Encodings that are better than the best mean, as pairs of seeds or solve rates can be."""
        return self.worded(Word.BETTER)

    @property
    def all_zero(self) -> bool:
        """True if the best score is 0, and no other encoding is clearly different."""
        is_zero = self.criterion.direction == "maximize" and max(self.means.values()) == 0
        return is_zero and not self.worded(Word.BETTER, Word.WORSE)

    @property
    def single_seed(self) -> bool:
        """True if there are others, and one seed alone to compare them by."""
        return bool(self.worded(Word.ONE_SEED)) and not self.worded(Word.BETTER, Word.WORSE, *ALIKE)

    def leaders(self, metric: str, note: str = "") -> str:
        """Return which encodings have the best mean: `a has the lowest loss (2.31)`, `a and b have the same loss (2)`.

        Means are compared by the digits that are shown. Unless all is luck, those of one seed are left out, and named.

        Args:
            metric: in words.
            note: to stand behind the mean.
        """
        single = [] if self.single_seed else self.worded(Word.ONE_SEED)
        shown = {name: f"{mean:.4g}" for name, mean in self.means.items() if name not in single}
        choose, extreme = (min, "lowest") if self.criterion.direction == "minimize" else (max, "highest")
        best = shown[choose(shown, key=self.means.__getitem__)]
        names = [name for name, mean in shown.items() if mean == best]
        rank = "same" if len(names) == len(shown) > 1 else extreme
        aside = f"leaving out {listed(single)}, which one seed cannot tell from luck, " if single else ""
        return f"{aside}{listed(names)} {has(names)} the {rank} {metric} ({best}{note})"

    def sentences(self, baseline: str) -> Iterator[str]:
        """Yield the answer and its evidence."""
        metric = in_words(self.criterion)
        note = f", mean of {amount(self.seeds, 'seed')}; {better(self.criterion.direction)} is better"
        if self.all_zero:
            yield nothing_scored(self.criterion)
        elif self.single_seed:
            yield f"{self.leaders(metric)}, which one seed cannot tell from luck."
        elif len(self.worded(Word.DIVERGED, Word.NOT_LEARNED)) == len(self.beside):
            alone = "has learned the task" if self.not_learned else "has a result"
            yield f"{self.best} alone {alone}: {metric} {self.means[self.best]:.4g}{note}."
        elif self.ahead:
            yield (
                f"{self.leaders(metric, note)}, but {listed(self.ahead)} {are(self.ahead)} better by the test of "
                "seeds: no encoding is clearly the one to take."
            )
        elif self.alike:
            yield f"{self.leaders(metric, note)}; {self._as_good()}."
        else:
            which = "" if len(self.worded(Word.WORSE)) == len(self.beside) else " that can be compared with it"
            shown = f"{self.means[self.best]:.4g}{note}"
            yield f"take {self.best}. Its {metric} ({shown}) is better than that of all others{which}."
        if baseline in self.worded(Word.WORSE):
            yield self._gain_over(baseline)
        if self.not_learned:
            yield f"{listed(self.not_learned)} {has(self.not_learned)} not learned the task."
        if diverged := self.worded(Word.DIVERGED):
            yield f"All runs of {listed(diverged)} diverged."

    def _as_good(self) -> str:
        """Return which encodings are equivalent to the best, which are inconclusive, and how sure that is."""
        parts = []
        if equal := self.worded(Word.EQUAL):
            margin = f"within the margin of {self.criterion.margin:.3g}"
            parts.append(f"{listed(equal)} {are(equal)} equivalent to {self.best} {margin}: choose among these by cost")
        if unclear := self.worded(Word.NOT_TOLD_APART):
            parts.append(f"{listed(unclear)} {are(unclear)} inconclusive next to {self.best}{self._found(unclear)}")
        return "; ".join(parts)

    def _found(self, unclear: Sequence[str]) -> str:
        """Return which differences from the best would have been found; nothing if that is not known."""
        known = [size for name in unclear if (size := self.beside[name].detectable)]
        if not known:
            return ""
        if max(known) >= self.most:
            return " (seeds are too few, and differ too much, to find a difference from some of them)"
        return f" (differences above {max(known):.2g} would probably have been found)"

    def _gain_over(self, baseline: str) -> str:
        verdict = self.beside[baseline]
        if verdict.solve_rates is not None:
            return (
                f"{self.solved[self.best]} seeds of {self.best} solve the task, {self.solved[baseline]} of {baseline}, "
                "the baseline."
            )
        low, high = sorted(abs(end) for end in verdict.difference.interval)
        return (
            f"{self.best} is {abs(verdict.difference.mean):.3g} better than {baseline}, the baseline "
            f"(95 % interval of this pair alone, {low:.3g} to {high:.3g})."
        )


def answer(results: Results, case: str, criterion: Criterion, without: Collection[str] = ()) -> Answer | None:
    """Return what a case says on a metric, some encodings left out; None where no other has learned."""
    if not (ranked := [name for name in results.ranked(case, criterion) if name not in without]):
        return None
    best, *_ = ranked
    verdicts = results.verdicts(case, criterion, best, all_pairs=True)  # the best is chosen by its scores
    beside = {name: verdict for name, verdict in verdicts.items() if name not in without}
    values = {name: results.scores(case, criterion)[name].values for name in (best, *beside)}
    return Answer(
        case,
        criterion,
        best,
        {name: results.mean(case, criterion, name) for name in ranked},
        len(results.known_values(case, criterion, best)),
        beside,
        results.not_learned(case),
        {name: f"{solved(own).sum()} of {len(own)}" for name, own in values.items()},
        100 if is_share(criterion.name, results.tasks[case]) else math.inf,
    )


def answers(results: Results) -> list[Answer]:
    """Return what each case says on its first metric."""
    found = (answer(results, case, results.comparison.criteria(case)[0]) for case in results.comparison.cases)
    return [one for one in found if one is not None]


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
