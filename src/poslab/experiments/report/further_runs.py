"""Commands that train or test what a comparison has no evidence for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from poslab.configuration.command_line import poslab_command, words_after
from poslab.experiments.costs import COSTS
from poslab.experiments.results import Results
from poslab.report.sentences import amount
from poslab.training.duration import SECONDS_OF_START

OWN_KEYS = ("recommend", "report_only", "dry_run", "length", "memory", "speed", "start")
"""Keys of a command for a recommendation that a command for more evidence leaves out."""


@dataclass(frozen=True)
class FurtherRuns:
    """Commands that make the evidence which a comparison lacks, each with a sentence before it.

    Args:
        results: of the comparison.
        typed: the command of the comparison.
        estimated: seconds of a run of a case of which none is finished; None if they cannot be estimated.
    """

    results: Results
    typed: str
    estimated: Callable[[str], float] | None

    def missing(self) -> Counter[str]:
        """Return the number of runs and trials of each case that are to be trained: not finished, failed or blocked."""
        results, plan = self.results, self.results.plan
        finished = (cell for cell in results.wanted if cell.identity in results.finished)
        ended = Counter(cell.case for cell in finished if not plan.is_beyond(cell))
        for cell in results.blocked:
            ended[cell.case] += 1
            if cell.seed == results.comparison.seed_list[0]:  # that of the run with which its trials begin
                ended[cell.case] += results.comparison.trials_of(cell.case, cell.encoding)
        return self._wanted() - ended

    def is_unfinished(self, case: str) -> bool:
        """Return whether a comparison that trains its runs lacks some of a case: missing, failed or blocked."""
        lost = [*self.results.failed, *self.results.blocked]
        return not self.results.places and (self.missing()[case] > 0 or any(cell.case == case for cell in lost))

    def finished(self, case: str) -> Iterator[str]:
        """Yield the command that trains the runs that are missing, and how many of a case it does not."""
        if missing := self.missing():
            yield from self._training(missing)
        if failed := [cell for cell in self.results.failed if cell.case == case]:
            log = self.results.place(failed[0]) / "train.log"
            yield (
                f"{amount(len(failed), 'run')} failed for good, and the same command does not train them again: see "
                f"{log}."
            )
        if blocked := [cell for cell in self.results.blocked if cell.case == case]:
            yield f"{amount(len(blocked), 'run')} cannot begin: those that they begin with diverged or failed."

    def with_more_seeds(self) -> Iterator[str]:
        """Yield the command that trains two more seeds."""
        seeds = self.results.comparison.seed_list
        more = [*seeds, max(seeds) + 1, max(seeds) + 2]
        runs = Counter(2 * [case for case, _ in self.results.comparison.pairs])
        is_count = more == list(range(1, len(more) + 1))
        yield from self._training(runs, seeds=str(len(more)) if is_count else str(more).replace(" ", ""))

    def pretrained(self) -> Iterator[str]:
        """Yield the command that trains all runs from the weights of another run."""
        name = f"{self.results.comparison.name}_pretrained"
        own = {"name": name, "output": f"outputs/comparisons/{name}", "init_from": "outputs/RUN"}
        yield from self._training(self._wanted(), **own)

    def tested_at(self, case: str, length: int) -> Iterator[str]:
        """Yield the command that tests the same runs at another length."""
        lengths = [*self.results.plan.lengths[case], length]
        if self.results.places:
            yield "This tests the same runs there:"
            yield self._command(lengths=str(lengths).replace(" ", ""))
        else:
            yield (
                f"With {length} among the lengths of cases.{case} in its file, and test data as long, this tests the "
                "same runs there:"
            )
            yield self._command()

    def _training(self, runs: Counter[str], **changes: str) -> Iterator[str]:
        if self.results.places:  # runs that exist, which no command of a comparison trains
            yield f"More runs on the same data are needed, from {poslab_command('train')}."
        else:
            yield f"This trains what is missing, {self._hours(runs)}:"
            yield self._command(**changes)

    def _command(self, **changes: str) -> str:
        words = [
            word for word in words_after("compare", self.typed) if word.partition("=")[0] not in (*OWN_KEYS, *changes)
        ]
        command = poslab_command("compare", *words, *(f"{key}={value}" for key, value in changes.items()))
        return f"\n{command}"

    def _wanted(self) -> Counter[str]:
        """Return the number of runs and trials of each case."""
        comparison, wanted = self.results.comparison, Counter[str]()
        for case, encoding in comparison.pairs:
            wanted[case] += len(comparison.seed_list) + comparison.trials_of(case, encoding)
        return wanted

    def _hours(self, runs: Counter[str]) -> str:
        """Return in words how long numbers of runs by case take with the workers of the comparison."""
        seconds = sum(count * self._seconds_of_run(case) for case, count in runs.items() if count)
        hours = seconds / 3600 / self.results.comparison.workers
        if math.isnan(hours):
            return "in a time that dry_run=true estimates"
        minutes = amount(max(1, round(60 * hours)), "minute")
        return f"in about {hours:.2g} hours" if hours >= 1.5 else f"in about {minutes}"

    def _seconds_of_run(self, case: str) -> float:
        """Return the mean of finished runs of a case, without validations and tests, or an estimate."""
        tag = COSTS["seconds"].tag
        took = [
            result.metrics[tag] for cell, result in self.results.cells if cell.case == case and tag in result.metrics
        ]
        if took:
            return SECONDS_OF_START + sum(took) / len(took)
        return math.nan if self.estimated is None else self.estimated(case)
