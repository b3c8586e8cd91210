"""A study as a queue of jobs: many processes take, finish and retry its trials."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from poslab.experiments.pool.failure import Failure
from poslab.experiments.pool.source import Jobs, TakenJob
from poslab.experiments.tuning.attributes import (
    BEGAN_AFTER,
    CAN_PASS,
    FIRST_ATTEMPT,
    FROM_OUTSIDE,
    REASON,
    RETRY_OF,
    WORKER,
)
from poslab.experiments.tuning.storage import STORAGE_ERRORS
from poslab.experiments.tuning.trial_record import AnyTrial, TrialRecord, check_trials, first_attempt, is_lost

REASSIGNED = "given up"
"""Reason for which a run ends early: a heartbeat did not arrive, and another worker has its trial."""


class TrialQueue(optuna.Study):
    """The trials of a study as jobs: a `WatchedSource`, and all of a `JobSource` but `complete`.

    A subclass says which trials are wanted: `record` reads them, and `new_trial` makes a missing one.
    """

    kept_by_retries: ClassVar[tuple[str, ...]] = ()
    """User attributes that a retry has from the attempt before it."""

    def __init__(
        self, name: str, storage: RDBStorage, sampler: BaseSampler | None = None, pruner: BasePruner | None = None
    ) -> None:
        super().__init__(study_name=name, storage=storage, sampler=sampler, pruner=pruner)
        self.storage = storage

    def checked_trials(self) -> list[FrozenTrial]:
        """Return all trials; raise DamagedStorageError for those that Poslab does not write."""
        trials = self.get_trials(deepcopy=False)
        check_trials(trials, len(self.directions))
        return trials

    @abstractmethod
    def record(self) -> TrialRecord:
        """Return the record of the wanted trials at this moment."""

    @abstractmethod
    def new_trial(self, record: TrialRecord) -> FrozenTrial | None:
        """Return a trial that is wanted and missing, to be added; None if there is none at this moment."""

    @abstractmethod
    def directory_of(self, trial: AnyTrial) -> Path:
        """Return the directory in which a trial is trained."""

    @property
    def outages(self) -> tuple[type[Exception], ...]:
        return STORAGE_ERRORS

    @property
    def heartbeat_interval(self) -> float:
        assert self.storage.heartbeat_interval is not None
        return self.storage.heartbeat_interval

    def is_settled(self) -> bool:
        return self.record().is_settled

    def jobs(self) -> Jobs[AnyTrial]:
        record = self.record()
        taken = [
            TakenJob[AnyTrial](
                trial,
                worker=trial.user_attrs[WORKER],
                directory=self.directory_of(trial),
                is_running=trial.state == TrialState.RUNNING,
                is_lost=is_lost(trial),
            )
            for trial in record.all_attempts
            if trial.user_attrs.get(WORKER) is not None
        ]
        return Jobs(record.unfinished, taken)

    def take(self, worker: str) -> Trial | None:
        while True:
            record = self.record()
            for failed in record.pending_retries:
                self.add_trial(self._retry(failed))
            for waiting in record.waiting:
                if self._taken(waiting):
                    trial = Trial(self, waiting._trial_id)
                    with contextlib.suppress(UpdateFinishedTrialError):
                        trial.set_user_attr(WORKER, worker)
                        return trial
            if record.pending_retries:
                continue
            if (missing := self.new_trial(record)) is not None:
                self.add_trial(missing)
            elif not record.waiting:
                return None

    def _retry(self, failed: FrozenTrial) -> FrozenTrial:
        kept = {name: failed.user_attrs[name] for name in self.kept_by_retries}
        is_drawn = BEGAN_AFTER in failed.user_attrs  # a kill in the midst of drawing leaves some parameters
        if is_drawn:
            kept[BEGAN_AFTER] = -1  # so has a retry that does not begin either
        return create_trial(
            state=TrialState.WAITING,
            params=failed.params if is_drawn else {},
            distributions=failed.distributions if is_drawn else {},
            intermediate_values=failed.intermediate_values,
            system_attrs=failed.system_attrs,
            user_attrs={**kept, RETRY_OF: failed.number, FIRST_ATTEMPT: first_attempt(failed)},
        )

    def _taken(self, trial: FrozenTrial) -> bool:
        try:
            self.storage.record_heartbeat(trial._trial_id)  # a trial that was put back may have an old one
            return self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    def current(self, trial: AnyTrial) -> FrozenTrial:
        """Return a trial as it is in the storage at this moment."""
        return self.storage.get_trial(trial._trial_id)

    def heartbeat(self, trial: AnyTrial) -> None:
        self.storage.record_heartbeat(trial._trial_id)

    def record_beginning(self, trial: AnyTrial, saved_steps: int) -> None:
        """Record that an attempt begins to train after these saved steps of its runs."""
        self.storage.set_trial_user_attr(trial._trial_id, BEGAN_AFTER, saved_steps)

    def put_back(self, trial: AnyTrial) -> None:
        with contextlib.suppress(UpdateFinishedTrialError):
            self.storage.set_trial_user_attr(trial._trial_id, WORKER, None)
            self.storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def fail(self, trial: AnyTrial, failure: Failure) -> None:
        now = self.current(trial)
        if now.state != TrialState.RUNNING or now.user_attrs.get(WORKER) != trial.user_attrs.get(WORKER):
            return
        with contextlib.suppress(UpdateFinishedTrialError):
            self.storage.set_trial_user_attr(trial._trial_id, FROM_OUTSIDE, failure.from_outside)
            self.storage.set_trial_user_attr(trial._trial_id, REASON, failure.reason)
            self.storage.set_trial_user_attr(trial._trial_id, CAN_PASS, failure.can_pass)
            self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)

    def fail_silent(self) -> None:
        optuna.storages.fail_stale_trials(self)
