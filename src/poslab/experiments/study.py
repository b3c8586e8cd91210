"""The cells of a comparison as a queue of jobs in a database."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from poslab.experiments.cells import Cell, CellResult, Finished, cell_of, result_of
from poslab.experiments.plan import CellPlan
from poslab.experiments.pool.failure import Failure
from poslab.experiments.tuning.attributes import UNFINISHED
from poslab.experiments.tuning.queue import TrialQueue
from poslab.experiments.tuning.trial_record import AnyTrial, TrialRecord, first_attempts
from poslab.runs.directory import RunDirectory

CELL = "cell"
"""User attribute of a trial: its cell."""

RESULT = "result"
"""User attribute of a complete trial: the result of its cell."""


class ComparisonStudy(TrialQueue):
    """The cells of a comparison: a `JobSource` and a `WatchedSource`, of which each cell is a trial of Optuna's.

    No process keeps count: which cells are wanted follows from the plan and the results in the database. If two
    processes add the same cell at the same time, all take the first, and the other stays waiting.
    """

    kept_by_retries: ClassVar[tuple[str, ...]] = (CELL,)

    def __init__(self, plan: CellPlan, storage: RDBStorage) -> None:
        super().__init__(plan.comparison.name, storage)
        self.plan = plan
        self._output = Path(plan.comparison.output)

    def record(self) -> TrialRecord:
        trials = self.checked_trials()
        by_identity = _by_identity(trials)
        wanted, unknown = self.plan.wanted(self._results(trials))
        firsts = [by_identity[cell.identity] for cell in wanted if cell.identity in by_identity]
        missing = len(wanted) - len(firsts) + unknown
        return TrialRecord.following(firsts, trials, missing, self._finished_since(trials))

    def new_trial(self, record: TrialRecord) -> FrozenTrial | None:
        if not record.missing:
            return None
        trials = self.checked_trials()
        there = _by_identity(trials)
        wanted, _ = self.plan.wanted(self._results(trials))
        missing = next((cell for cell in wanted if cell.identity not in there), None)
        if missing is None:
            return None
        return create_trial(state=TrialState.WAITING, user_attrs={CELL: missing.as_plain_data()})

    def directory_of(self, trial: AnyTrial) -> Path:
        return self._output / cell_of_trial(trial).directory

    def complete(self, trial: Trial, result: CellResult) -> None:
        with contextlib.suppress(UpdateFinishedTrialError):
            trial.set_user_attr(RESULT, asdict(result))
            self.tell(trial, [0.0])

    def fail(self, trial: AnyTrial, failure: Failure) -> None:
        with contextlib.suppress(UpdateFinishedTrialError):
            self.storage.set_trial_user_attr(trial._trial_id, UNFINISHED, not self._run_of(trial).is_finished)
        super().fail(trial, failure)

    def _finished_since(self, trials: Sequence[FrozenTrial]) -> set[int]:
        """Return the numbers of the cells that failed and whose run somebody has finished since, as by `resume`."""
        failed = (trial for trial in trials if trial.state == TrialState.FAIL and trial.user_attrs.get(UNFINISHED))
        return {trial.number for trial in failed if self._run_of(trial).is_finished}

    def _run_of(self, trial: AnyTrial) -> RunDirectory:
        return RunDirectory(self.directory_of(trial))

    def results(self) -> Finished:
        """Return the results of the finished cells."""
        return self._results(self.checked_trials())

    def _results(self, trials: Sequence[FrozenTrial]) -> Finished:
        firsts = list(_by_identity(trials).values())
        finished = TrialRecord.following(firsts, trials, 0, self._finished_since(trials)).finished
        return {cell_of_trial(trial).identity: result_of_trial(trial) for trial in finished}


def cell_of_trial(trial: AnyTrial) -> Cell:
    """Return the cell of a trial; ValueError for a trial of something else."""
    return cell_of(trial.user_attrs.get(CELL))


def result_of_trial(trial: FrozenTrial) -> CellResult | None:
    """Return the result of a finished trial; None if it failed."""
    return result_of(trial.user_attrs.get(RESULT)) if trial.state == TrialState.COMPLETE else None


def _by_identity(trials: Sequence[FrozenTrial]) -> dict[str, FrozenTrial]:
    """Return the first attempt at each cell, by its identity."""
    found: dict[str, FrozenTrial] = {}
    for trial in first_attempts(trials):
        found.setdefault(cell_of_trial(trial).identity, trial)
    return found
