"""A recommendation from the results of a comparison, under what a user needs of a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from rich.console import Console

from poslab.arguments import Count, Positive, Range, with_checked_arguments
from poslab.comparison.comparison import Criterion
from poslab.comparison.duration import SECONDS_BESIDE_STEPS
from poslab.comparison.report.answers import (
    ALIKE,
    COST_METRICS,
    amount,
    answer,
    are,
    cost,
    has,
    in_words,
    listed,
    nothing_scored,
)
from poslab.comparison.results import Results
from poslab.comparison.statistics.verdict import Word
from poslab.configuration.command_line import poslab_command, words_after
from poslab.evaluation.extra_metrics import EXTRA
from poslab.runs.directory import RunDirectory

SPEED, MEMORY = "train_tokens_per_second", "memory"

OWN_KEYS = ("recommend", "report_only", "dry_run", "length", "memory", "speed", "start")
"""Keys of the command line that a command for more evidence leaves out."""


@with_checked_arguments
@dataclass(frozen=True)
class Needs:
    """Requirements of a user.

    Args:
        length: longest text or example that the model must serve, in the measure of the test; None is any.
        memory: most memory in MB, of training, or if a length is given of reading it.
        speed: least tokens per second, of training, or if a length is given of reading it.
        start: whether the model is trained from scratch or is a pretrained one.
    """

    length: Count | None = None
    memory: Positive | None = None
    speed: Annotated[float, Range(above=0)] | None = None
    start: Literal["scratch", "pretrained"] = "scratch"


def recommendation(
    results: Results, needs: Needs, typed: str, estimated: Callable[[str], float] | None = None
) -> Iterator[str]:
    """Yield a text for each case: what to take, the runner-up, and how far the evidence is from the need.

    Where there is no evidence, the text ends with a command that makes it, in a line of its own, and says how long that
    takes. Cases with the same text share it.

    Args:
        results: of the comparison.
        needs: what the user needs.
        typed: the command of the comparison.
        estimated: seconds of a run of a case of which none is finished; None if they cannot be estimated.
    """
    remedy = _Remedy(results, typed, estimated)
    cases: dict[str, list[str]] = {}
    for case in results.comparison.cases:
        parts = list(_for_case(results, case, needs, remedy))
        cases.setdefault("".join(part if part.startswith("\n") else f" {part}" for part in parts), []).append(case)
    for text, own in cases.items():
        yield f"{listed(own)}:{text}"


def print_recommendation(console: Console, texts: Iterable[str]) -> None:
    """Print texts of a recommendation; commands are not wrapped, so that they can be copied."""
    for line in (line for text in texts for line in text.splitlines()):
        console.print(line, soft_wrap=line.startswith("python "))


@dataclass(frozen=True)
class _Remedy:
    """Commands that make the evidence which a comparison lacks, each with a sentence before it."""

    results: Results
    typed: str
    estimated: Callable[[str], float] | None

    def missing(self) -> Counter[str]:
        """Return the number of runs and trials of each case that are to be trained: not finished, failed or blocked."""
        results = self.results
        known, _ = results.plan.wanted(results.finished)
        ended = Counter(cell.case for cell in known if cell.identity in results.finished)
        for cell in results.blocked:
            ended[cell.case] += 1
            if cell.seed == results.comparison.seed_list[0]:  # that of the run with which its trials begin
                tuning = results.comparison.tuning_of(cell.case)
                ended[cell.case] += 0 if tuning is None else tuning.trials_of(cell.encoding)
        return self._wanted() - ended

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
            yield f"With {length} among the lengths of cases.{case} in its file, this tests the same runs there:"
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
            tuning = comparison.tuning_of(case)
            wanted[case] += len(comparison.seed_list) + (0 if tuning is None else tuning.trials_of(encoding))
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
        """Return the mean of finished runs of a case, with their start and test, or an estimate."""
        took = [
            result.metrics[COST_METRICS["seconds"]]
            for cell, result in self.results.cells
            if cell.case == case and COST_METRICS["seconds"] in result.metrics
        ]
        if took:
            return SECONDS_BESIDE_STEPS + sum(took) / len(took)
        return math.nan if self.estimated is None else self.estimated(case)


def _for_case(results: Results, case: str, needs: Needs, remedy: _Remedy) -> Iterator[str]:
    is_pretrained = _is_pretrained(results, case)
    if needs.start == "pretrained" and not is_pretrained:
        yield "there is no evidence for pretrained models, since all of these began from scratch."
        yield from remedy.pretrained()
        return
    if needs.start == "scratch" and is_pretrained:
        yield "there is no evidence for models from scratch, since all of these are pretrained (start=pretrained)."
        return
    if not results.is_comparable(case):
        yield "there is no evidence yet, since no seed of all encodings is finished."
        yield from remedy.finished(case)
        return
    criterion = _criterion(results, case, needs)
    able = results.ranked(case, criterion)
    fitting = [name for name in able if _fits(results, case, name, needs)]
    if not results.scores(case, criterion):
        yield f"no encoding has positions for {in_words(criterion)}, of {listed(results.encodings(case))}."
        return
    if not fitting:
        lacking = "is known to be fast and small enough" if able else "has learned it"
        considered = [name for name in results.encodings(case) if name in able or not able]
        yield f"no encoding {lacking}, of {listed(considered)}."
        return
    if (found := answer(results, case, criterion)) is not None and found.decides_nothing:
        yield nothing_scored(criterion)
        return
    yield from _choice(results, case, criterion, fitting, needs)
    if dropped := [name for name in able if name not in fitting]:
        yield f"{listed(dropped)} {are(dropped)} too slow or too large, or not known to be fast and small enough."
    yield from _distance(results, case, needs)
    if missing := results.without_runs(case):
        yield f"{listed(missing)} {has(missing)} no finished run."
        yield from remedy.finished(case)
    elif _is_luck(results, case, criterion, fitting):
        yield from remedy.finished(case) if remedy.missing()[case] else remedy.with_more_seeds()
    elif (lengths := results.plan.lengths[case]) and needs.length is not None and needs.length > max(lengths):
        yield from remedy.tested_at(case, needs.length)


def _choice(results: Results, case: str, criterion: Criterion, fitting: list[str], needs: Needs) -> Iterator[str]:
    """Yield which of some encodings to take, the runner-up, and those that may be as good."""
    best, *others = fitting
    beside, metric = results.verdicts(case, criterion, best), in_words(criterion)
    values = {name: f"{results.mean(case, criterion, name):.4g}" for name in fitting}
    if _is_luck(results, case, criterion, fitting):
        yield f"{best} has the best {metric} ({values[best]}), which one seed cannot tell from luck."
        return
    if ahead := [name for name in others if beside[name].word is Word.BETTER]:
        yield (
            f"{best} has the best mean {metric} ({values[best]}), but {ahead[0]} ({values[ahead[0]]}) is "
            f"{beside[ahead[0]].beside(best)}. No encoding is clearly the one to take."
        )
        return
    alike = [name for name in others if beside[name].word in ALIKE]
    faster = "trains faster" if (length := _timed_at(results, case, needs)) is None else f"reads {length:,} faster"
    choice = max([best, *alike], key=lambda name: _speed(results, case, name, needs))
    seeds = amount(len(results.known_values(case, criterion, choice)), "seed")
    yield f"take {choice} ({metric}: {values[choice]}, {seeds})."
    if choice != best:
        yield f"{best} has the best mean ({values[best]}), but {choice} is {beside[choice].word} and {faster}."
    elif others:
        yield f"The runner-up is {others[0]} ({values[others[0]]}): {beside[others[0]].beside(best)}."
    named = {choice, best, *(others[:1] if choice == best else [])}
    rest = [name for name in alike if name not in named]
    if equal := [name for name in rest if beside[name].word is Word.EQUAL]:
        yield f"{listed(equal)} {are(equal)} equal to {best} within the margin."
    if unclear := [name for name in rest if name not in equal]:
        yield f"{listed(unclear)} {are(unclear)} not told apart from {best} either."


def _is_luck(results: Results, case: str, criterion: Criterion, fitting: list[str]) -> bool:
    """Return whether there are others beside the first encoding, and one seed alone to compare them by."""
    best, *others = fitting
    beside = results.verdicts(case, criterion, best)
    return bool(others) and all(beside[name].word is Word.ONE_SEED for name in others)


def _criterion(results: Results, case: str, needs: Needs) -> Criterion:
    """Return the first metric of a case, at the needed length or the nearest one that was tested."""
    first = results.comparison.criteria(case)[0]
    if needs.length is None or len(results.plan.lengths[case]) < 2 or first.name in EXTRA:
        return first
    return replace(first, metric=f"{first.name}@{_nearest(results, case, needs.length)}")


def _nearest(results: Results, case: str, length: int) -> int:
    """Return the shortest length of the test that is not below a length, or else the longest."""
    lengths = results.plan.lengths[case]
    longer = [n for n in lengths if n >= length]
    return min(longer) if longer else max(lengths)


def _timed_at(results: Results, case: str, needs: Needs) -> int | None:
    """Return the length at which speed and memory decide; None where those of training do."""
    if needs.length is None or case not in results.speeds:
        return None
    length = _nearest(results, case, needs.length)
    return length if length in results.speeds[case].lengths else None


def _costs(results: Results, case: str, encoding: str, needs: Needs) -> tuple[float, float]:
    """Return tokens per second and MB, of reading the needed length where that was timed, else of training."""
    if (length := _timed_at(results, case, needs)) is None:
        return cost(results, case, encoding, SPEED), cost(results, case, encoding, MEMORY)
    found = results.speeds[case].at(encoding, length)
    return (math.nan, math.nan) if found is None else (found.tokens_per_second, found.memory_mb)


def _is_pretrained(results: Results, case: str) -> bool:
    """Return whether the runs of a case began from the weights of another run, or of a pretrained model."""
    comparison = results.comparison
    chosen = {**comparison.train, **comparison.all_cases[case].train}
    typed = dict(override.lstrip("+").split("=", 1) for override in comparison.overrides if "=" in override)
    runs = [cell for cell, _ in results.cells if cell.case == case and cell.identity in results.places]
    kept = RunDirectory(results.place(runs[0]), tuple(comparison.trust)).config() if runs else {}
    is_hosted = "pretrained" in (chosen.get("model"), typed.get("model")) or "path" in kept.get("model", ())
    return (
        is_hosted
        or comparison.all_cases[case].after is not None
        or any(own.get("init_from") not in (None, "null") for own in (chosen, typed, kept))
    )


def _fits(results: Results, case: str, encoding: str, needs: Needs) -> bool:
    speed, memory = _costs(results, case, encoding, needs)
    return (needs.speed is None or speed >= needs.speed) and (needs.memory is None or memory <= needs.memory)


def _speed(results: Results, case: str, encoding: str, needs: Needs) -> float:
    speed, _ = _costs(results, case, encoding, needs)
    return speed if math.isfinite(speed) else 0.0


def _distance(results: Results, case: str, needs: Needs) -> Iterator[str]:
    """Yield how far the evidence is from the need."""
    trained = results.plan.trained[case]
    tested = max(results.plan.lengths[case], default=trained)
    runs = [result for name in results.encodings(case) for _, result in results.runs(case, name).values()]
    size = max(result.metrics.get("parameters", 0) for result in runs)
    yield (
        f"The evidence is of models of {size:,.0f} parameters, trained up to length {trained:,} and tested up to "
        f"{tested:,}."
    )
    if needs.speed is not None or needs.memory is not None:
        if (length := _timed_at(results, case, needs)) is not None:
            yield f"Speed and memory are those of reading length {length:,} on {results.speeds[case].machine}."
        else:
            machines = listed(sorted({result.machine for result in runs}))
            yield f"Speed and memory are those of training at length {trained:,} on {machines}."
    if needs.length is not None and needs.length > tested:
        yield f"There is no evidence at length {needs.length:,}, {needs.length / tested:.3g} times the longest test."
