"""Progress of a sweep or a comparison on the terminal: a line for each job that ends, and a live table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from poslab.experiments.cells import result_of
from poslab.experiments.jobs import Jobs, Record, Snapshot
from poslab.experiments.plan import ComparisonJobs, cell_of_key
from poslab.experiments.search import SweepJobs
from poslab.experiments.sweep import SearchObjective
from poslab.experiments.workers import Workers, supervise
from poslab.report.text import roughly
from poslab.runs.errors import RunInterruptedError, RunStoppedError
from poslab.training.duration import SECONDS_OF_WORKER, is_busy

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


class Display(ABC):
    """Lines for jobs that end, and a live table if the console is a terminal; `workers` are this machine's."""

    def __init__(self, console: Console, jobs: Jobs[Any], workers: int) -> None:
        self._console = console
        self._jobs = jobs
        self._workers = workers
        self._printed: set[str] = set()
        self._live = Live(console=console, transient=True, auto_refresh=False)

    @abstractmethod
    def counts(self, snapshot: Snapshot) -> str:
        """Return in words how many jobs are finished, running and waiting."""

    @abstractmethod
    def label(self, key: str) -> str:
        """Return the name of a job."""

    @abstractmethod
    def line(self, key: str, record: Record) -> str:
        """Return the line for a job that has an outcome."""

    def details(self, snapshot: Snapshot) -> list[str]:
        """Return the lines below the counts: the jobs that are trained now."""
        return [f"running  {self.label(key)}" for key in snapshot.running]

    def table(self, snapshot: Snapshot) -> Text:
        """Return the live display."""
        lines = [f"{self.counts(snapshot)}{self.time_left(snapshot)}", *self.details(snapshot)]
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")

    def supervise(self, workers: Workers) -> None:
        """Show the jobs while `supervise` trains them; errors as of that."""
        snapshot = self._jobs.snapshot()
        self._printed.update(event for event, _ in self._events(snapshot))
        if snapshot.taken:
            self._console.print(f"resuming: {self.counts(snapshot)}", soft_wrap=True)
        if self._console.is_terminal:
            self._live.start()
        try:
            supervise(self._jobs, workers, self.update)
        except (RunInterruptedError, RunStoppedError):
            self._live.stop()
            counts = self.counts(self._jobs.snapshot())
            self._console.print(f"{counts}: resume with the same command", soft_wrap=True)
            raise
        finally:
            self._live.stop()

    def update(self, snapshot: Snapshot) -> None:
        """Show what has changed."""
        for event, line in self._events(snapshot):
            if event not in self._printed:
                self._printed.add(event)
                self._console.print(line(), soft_wrap=True)
        if self._live.is_started:
            self._live.update(self.table(snapshot), refresh=True)

    def _events(self, snapshot: Snapshot) -> list[tuple[str, Callable[[], str]]]:
        """Return a name, and a function that returns the line, of each attempt that failed and each outcome."""
        events: list[tuple[str, Callable[[], str]]] = []
        for key, record in snapshot.records.items():
            for number, attempt in enumerate(record.attempts):
                if attempt.failure is not None:
                    line = f"failed    {self.label(key)}: {attempt.failure.reason}"
                    events.append((f"{number} {key}", lambda line=line: line))  # type: ignore[misc]
            if record.outcome is not None:
                events.append((key, lambda key=key, record=record: self.line(key, record)))  # type: ignore[misc]
        return events

    def time_left(self, snapshot: Snapshot) -> str:
        """Return `, about 0:59:30 left`, by the duration of finished jobs; "" while none is, and at the end."""
        seconds = [record.seconds for record in snapshot.records.values() if record.seconds is not None]
        if not seconds or not snapshot.unfinished:
            return ""
        at_once = max(self._workers, len(snapshot.running))
        left = round(snapshot.unfinished * sum(seconds) / len(seconds) / at_once)
        return f", about {timedelta(seconds=left)} left"


class SweepDisplay(Display):
    """The progress of a sweep."""

    _jobs: SweepJobs

    def counts(self, snapshot: Snapshot) -> str:
        counts = {"running": snapshot.running, "waiting": snapshot.waiting}
        rest = "".join(f", {len(keys)} {word}" for word, keys in counts.items() if keys)
        ended = outcomes(self._jobs.finished(snapshot))
        return f"{len(snapshot.finished)} of {len(snapshot.records)}: {ended}{rest}"

    def label(self, key: str) -> str:
        return f"trial {key}"

    def line(self, key: str, record: Record) -> str:
        trial, best = self._jobs.trials()[key], best_of(self._jobs.finished(), self._jobs.sweep.all_objectives)
        mark = "  best so far" if best is not None and best.number == trial.number else ""
        mark = mark or ("  the default" if trial.number == 0 else "")
        mark += f"  attempt {len(record.attempts)}" if len(record.attempts) > 1 else ""
        state = STATES.get(trial.state, "running")
        return f"trial {trial.number:<3} {state:<9}{shown_values(trial):<9} {shown(trial.params)}{mark}"

    def details(self, snapshot: Snapshot) -> list[str]:
        best = best_of(self._jobs.finished(snapshot), self._jobs.sweep.all_objectives)
        lines, trials = [], self._jobs.trials()
        if best is not None:
            lines.append(f"best     trial {best.number:<4} {shown_values(best):<9} {shown(best.params)}")
        for trial in (trials[key] for key in snapshot.running if key in trials):
            step, value = max(trial.intermediate_values.items(), default=(0, None))
            last = "" if value is None else f"{value:.4f} at validation {step}  "
            lines.append(f"running  trial {trial.number:<4} {last}{shown(trial.params)}")
        return lines


def best_of(trials: Sequence[FrozenTrial], objectives: Sequence[SearchObjective]) -> FrozenTrial | None:
    """Return the complete trial with the best value of the first objective; None if no trial is complete."""
    sign = 1 if objectives[0].minimized else -1
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return min(complete, key=lambda trial: (sign * trial.values[0], trial.number), default=None)


def shown(params: Mapping[str, Any]) -> str:
    """Return parameters in one line with rounded values, without the conditions in their names."""

    def rounded(value: Any) -> str:
        if not isinstance(value, float):
            return str(value)
        return f"{value:.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"

    return ", ".join(f"{name.partition(' (')[0]}={rounded(value)}" for name, value in params.items())


def shown_values(trial: FrozenTrial) -> str:
    """Return the values of a trial, with four decimals below a thousand."""
    values = trial.values or []
    return " ".join(f"{value:.4f}" if abs(value) < 1000 else f"{value:,.0f}" for value in values) or "-"


def outcomes(trials: Sequence[FrozenTrial]) -> str:
    """Return in words how many trials ended in each state."""
    return ", ".join(f"{sum(trial.state == state for trial in trials)} {word}" for state, word in STATES.items())


class ComparisonDisplay(Display):
    """The progress of a comparison."""

    def counts(self, snapshot: Snapshot) -> str:
        return run_counts(snapshot)

    def label(self, key: str) -> str:
        return cell_of_key(key).label

    def line(self, key: str, record: Record) -> str:
        took = "" if record.seconds is None else f" ({record.seconds:.0f} s)"
        return f"{'diverged' if result_of(record.outcome).diverged else 'finished':<9} {self.label(key)}{took}"


def run_counts(snapshot: Snapshot) -> str:
    """Return in words how many cells are finished, running, and interrupted, which resume where they stopped."""
    counts = {"failed": snapshot.failed, "running": snapshot.running, "interrupted": snapshot.waiting}
    rest = "".join(f", {len(keys)} {word}" for word, keys in counts.items() if keys)
    return f"{len(snapshot.finished)} of {len(snapshot.finished) + snapshot.unfinished} runs are finished{rest}"


def plan_table(jobs: ComparisonJobs, seconds: Callable[[str, str], float]) -> RenderableType:
    """Return the cells of a comparison: for each case and encoding, how many are finished of how many.

    `seconds` estimates the seconds of a run of a case and an encoding. Trials beyond a range are left out.
    """
    snapshot, comparison, left_of = jobs.snapshot(), jobs.plan.comparison, Counter[str]()
    cells = {key: cell_of_key(key) for key in snapshot.records}
    known = Counter((cell.case, cell.encoding, cell.is_trial) for cell in cells.values())
    finished = Counter((cell.case, cell.encoding, cell.is_trial) for cell in map(cells.__getitem__, snapshot.finished))
    counts = (Column(name, justify="right") for name in ("tuning", "runs"))
    table = Table("case", comparison.heading, *counts, box=box.SIMPLE_HEAD)
    for pair in comparison.pairs:
        tried, trials, trained = finished[*pair, True], known[*pair, True], finished[*pair, False]
        seeds = len(comparison.seeds_of(pair[0]))
        if missing := trials - tried + seeds - trained:
            left_of[pair[0]] += round(missing * seconds(*pair))
        table.add_row(*pair, f"{tried} of {trials}" if trials else "-", f"{trained} of {seeds}")
    left = left_of.total()
    columns = (Column(name, justify="right") for name in ("parameters", "steps", "tokens", "to go"))
    sizes = Table("case", *columns, box=box.SIMPLE_HEAD)
    for case, node in comparison.all_cases.items():
        if node.size is not None:
            numbers = map("{:,}".format, (node.parameters, node.steps, node.tokens))
            sizes.add_row(case, *numbers, roughly(left_of[case]) if left_of[case] else "-")
    workers = comparison.workers
    with_workers = f"with {workers} worker{'s' if workers > 1 else ''}"
    to_go = f"{roughly(SECONDS_OF_WORKER + left / workers)} to go {with_workers}" if left else "nothing to do"
    to_go += ", more while other programs keep this machine busy" if left and is_busy() else ""
    summary = f"{run_counts(snapshot)}; {to_go}"
    if comparison.tuning is not None and left:
        summary += "\nTuning may add runs, where the best value is at an end of its range."
    return Group(table, *([sizes] if sizes.rows else []), Text(summary))
