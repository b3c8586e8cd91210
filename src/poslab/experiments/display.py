"""Progress of a comparison on the terminal: a line for each cell that ends, and a live table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from poslab.experiments.study import ComparisonStudy, cell_of_trial, result_of_trial
from poslab.experiments.tuning.display import left_in_words
from poslab.experiments.tuning.queue_display import QueueDisplay
from poslab.experiments.tuning.trial_record import TrialRecord, recorded_failure
from poslab.report.sentences import roughly
from poslab.training.duration import SECONDS_OF_WORKER, is_busy

MAX_COLUMNS = 4
"""Cases with a column of their own in the live table, which must fit 80 characters."""


class Display(QueueDisplay):
    """The progress of a comparison; arguments as of `QueueDisplay`."""

    def __init__(self, console: Console, study: ComparisonStudy, workers: int) -> None:
        super().__init__(console, study, workers)
        self._study = study

    def counts(self, record: TrialRecord) -> str:
        return counts(record)

    def table(self, record: TrialRecord) -> RenderableType:
        running = [Text(f"running  {self._label(trial)}") for trial in record.running]
        for line in running:
            line.no_wrap, line.overflow = True, "ellipsis"
        head = Text(f"{counts(record)}{left_in_words(record, self._workers)}", style="bold")
        progress = _progress(self._study)
        return Group(head, _progress_table(self._study, progress), *_notes(progress), *running)

    def line(self, trial: FrozenTrial, record: TrialRecord) -> str:
        label, result = self._label(trial), result_of_trial(trial)
        if trial.state == TrialState.FAIL or result is None:
            return f"failed    {label}: {recorded_failure(trial).reason}"
        took = "" if trial.duration is None else f" ({trial.duration.total_seconds():.0f} s)"
        return f"{'diverged' if result.diverged else 'finished':<9} {label}{took}"

    def _label(self, trial: FrozenTrial) -> str:
        cell = cell_of_trial(trial)
        return f"{cell.label}{', beyond its range' if self._study.plan.is_beyond(cell) else ''}"


def counts(record: TrialRecord) -> str:
    """Return in words how many cells are finished, running, and interrupted, which resume where they stopped."""
    failed = len(record.in_state(TrialState.FAIL))
    others = {"failed": failed, "running": len(record.running), "interrupted": len(record.waiting)}
    rest = "".join(f", {count} {word}" for word, count in others.items() if count)
    return f"{len(record.finished)} of {len(record.finished) + record.unfinished} runs are finished{rest}"


@dataclass(frozen=True)
class _Progress:
    """Numbers of cells of an encoding on a case: trials and runs that are finished, and those that are wanted.

    `added` are those of the trials that lie beyond an end of a range.
    """

    tried: int
    trials: int
    added: int
    trained: int
    seeds: int

    @property
    def tuning(self) -> str:
        """Return how many trials are finished."""
        return f"{self.tried} of {self.trials}{self._star}" if self.trials else "-"

    @property
    def _star(self) -> str:
        return "*" if self.added else ""

    @property
    def runs(self) -> str:
        """Return how many runs are finished."""
        return f"{self.trained} of {self.seeds}"

    @property
    def brief(self) -> str:
        """Return how many runs are finished, or how many trials as long as some are missing, for a narrow column."""
        is_tuned = self.tried == self.trials or self.trained
        return f"{self.trained}/{self.seeds} runs" if is_tuned else f"{self.tried}/{self.trials}{self._star} trials"


def _progress(study: ComparisonStudy) -> dict[tuple[str, str], _Progress]:
    """Return the progress of each case and encoding."""
    results, plan = study.results(), study.plan
    wanted, _ = plan.wanted(results)
    known = Counter((c.case, c.encoding, c.is_trial) for c in wanted)
    finished = Counter((c.case, c.encoding, c.is_trial) for c in wanted if c.identity in results)
    added = Counter((c.case, c.encoding) for c in wanted if plan.is_beyond(c))
    seeds = len(plan.comparison.seed_list)
    return {
        pair: _Progress(finished[*pair, True], known[*pair, True], added[pair], finished[*pair, False], seeds)
        for pair in plan.comparison.pairs
    }


def _notes(progress: Mapping[tuple[str, str], _Progress]) -> Iterator[Text]:
    """Yield the meaning of the star, if there is one."""
    if any(one.added for one in progress.values()):
        yield Text("* with values beyond a range whose best was at its end")


def _progress_table(study: ComparisonStudy, progress: Mapping[tuple[str, str], _Progress]) -> Table:
    """Return a row for each encoding and a column for each case: its runs, or its trials while it is tuned.

    Where the columns would not fit, there is a row for each case: how many encodings are finished.
    """
    comparison, table = study.plan.comparison, Table(box=box.SIMPLE_HEAD)
    if len(comparison.cases) > MAX_COLUMNS:
        table.add_column("case", overflow="ellipsis", no_wrap=True, max_width=50)
        for name in ("tuning", "runs"):
            table.add_column(name, justify="right")
        for case in comparison.cases:
            own = [one for (of, _), one in progress.items() if of == case]
            total = _Progress(*(sum(parts) for parts in zip(*(vars(one).values() for one in own), strict=True)))
            table.add_row(case, total.tuning, total.runs)
        return table
    table.add_column("encoding")
    for case in comparison.cases:
        table.add_column(case, justify="right", overflow="ellipsis", no_wrap=True, max_width=13)
    for encoding in comparison.choices_by_encoding:
        row = []
        for case in comparison.cases:
            one = progress.get((case, encoding))
            row.append("" if one is None else one.brief)
        table.add_row(encoding, *row)
    return table


def plan_table(study: ComparisonStudy, seconds: Callable[[str, str], float]) -> RenderableType:
    """Return the cells of a comparison: for each case and encoding, how many are finished of how many.

    Args:
        study: of the comparison.
        seconds: estimates those of a run of a case and an encoding, of which a run is missing. Trials that extended
            ranges may add are left out of the time to go.
    """
    comparison, progress, left = study.plan.comparison, _progress(study), 0.0
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("case")
    table.add_column("encoding")
    for name in ("tuning", "runs"):
        table.add_column(name, justify="right")
    for (case, encoding), one in progress.items():
        if missing := one.trials - one.tried + one.seeds - one.trained:
            left += missing * seconds(case, encoding)
        table.add_row(case, encoding, one.tuning, one.runs)
    with_workers = f"with {comparison.workers} worker{'s' if comparison.workers > 1 else ''}"
    seconds_to_go = SECONDS_OF_WORKER + left / comparison.workers
    to_go = f"{roughly(seconds_to_go)} to go {with_workers}" if left else "nothing to do"
    to_go += ", more while other programs keep this machine busy" if left and is_busy() else ""
    summary = f"{counts(study.record())}; {to_go}"
    if any(one.tried < one.trials for one in progress.values()):
        summary += "\nTuning may add runs, where the best value is at an end of its range."
    return Group(table, *_notes(progress), Text(summary))
