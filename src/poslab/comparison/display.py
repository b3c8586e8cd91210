"""Progress of a comparison on the terminal: a line for each cell that ends, and a live table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from optuna.trial import FrozenTrial, TrialState
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from poslab.comparison.duration import is_busy, roughly
from poslab.comparison.study import ComparisonStudy, cell_of_trial, result_of_trial
from poslab.tuning.display import left_in_words
from poslab.tuning.trial_record import TrialRecord, recorded_failure


class Display:
    """Lines for cells that end, and a live table if the console is a terminal; `workers` are those of this machine."""

    def __init__(self, console: Console, study: ComparisonStudy, workers: int) -> None:
        self._console = console
        self._study = study
        self._workers = workers
        self._printed: set[int] = set()
        self._live = Live(console=console, transient=True, auto_refresh=False)

    def __enter__(self) -> Display:
        record = self._study.record()
        self._printed = {trial.number for chain in record.attempts for trial in chain if trial.state.is_finished()}
        if record.attempts:
            self._console.print(f"resuming: {counts(record)}", soft_wrap=True)
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self) -> None:
        """Show what has changed."""
        record = self._study.record()
        for trial in record.all_attempts:
            if trial.state.is_finished() and trial.number not in self._printed:
                self._printed.add(trial.number)
                self._console.print(_line(trial), soft_wrap=True)
        if self._live.is_started:
            self._live.update(self._table(record), refresh=True)

    def _table(self, record: TrialRecord) -> RenderableType:
        running = [Text(f"running  {cell_of_trial(trial).label}") for trial in record.running]
        for line in running:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(Text(f"{counts(record)}{left_in_words(record, self._workers)}", style="bold"), *running)


def _line(trial: FrozenTrial) -> str:
    cell, result = cell_of_trial(trial), result_of_trial(trial)
    if trial.state == TrialState.FAIL or result is None:
        return f"failed    {cell.label}: {recorded_failure(trial).reason}"
    took = "" if trial.duration is None else f" ({trial.duration.total_seconds():.0f} s)"
    return f"{'diverged' if result.diverged else 'finished':<9} {cell.label}{took}"


def counts(record: TrialRecord) -> str:
    """Return in words how many cells are finished, running and waiting."""
    failed = len(record.in_state(TrialState.FAIL))
    others = {"failed": failed, "running": len(record.running), "waiting": len(record.waiting)}
    rest = "".join(f", {count} {word}" for word, count in others.items() if count)
    return f"{len(record.finished)} of {len(record.finished) + record.unfinished} runs are finished{rest}"


def plan_table(study: ComparisonStudy, seconds: Mapping[str, float]) -> RenderableType:
    """Return the cells of a comparison: for each case and encoding, how many are finished of how many.

    The time to go follows from the estimated seconds of a run of each case.
    """
    record, results = study.record(), study.results()
    wanted, _ = study.plan.wanted(results)
    finished = Counter((c.case, c.encoding, c.is_trial) for c in wanted if c.identity in results)
    comparison, left = study.plan.comparison, 0.0
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("case")
    table.add_column("encoding")
    for name in ("tuning", "runs"):
        table.add_column(name, justify="right")
    for case, encoding in comparison.pairs:
        tuning, (tried, trained) = comparison.tuning_of(case), (finished[case, encoding, t] for t in (True, False))
        trials = 0 if tuning is None else tuning.trials_of(encoding)
        left += (max(0, trials - tried) + len(comparison.seed_list) - trained) * seconds[case]
        shown = f"{tried} of {trials}" if trials else "-"
        table.add_row(case, encoding, shown, f"{trained} of {len(comparison.seed_list)}")
    with_workers = f"with {comparison.workers} worker{'s' if comparison.workers > 1 else ''}"
    to_go = f"{roughly(left / comparison.workers)} to go {with_workers}" if left else "nothing to do"
    to_go += " (less once no other programs run)" if left and is_busy() else ""
    return Group(table, Text(f"{counts(record)}; {to_go}"))
