"""A study as a source of jobs: many processes take, finish and retry its trials."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from poslab.pool.failure import Failure
from poslab.pool.source import Jobs, TakenJob
from poslab.tuning.attributes import CAN_PASS, EXHAUSTED, FIRST_ATTEMPT, FROM_OUTSIDE, METRICS, REASON, RETRY_OF, WORKER
from poslab.tuning.sampling import NumberedSampler, build_pruner
from poslab.tuning.storage import STORAGE_ERRORS
from poslab.tuning.sweep import Sweep
from poslab.tuning.trial_record import TrialRecord, first_attempt, is_lost

AnyTrial = Trial | FrozenTrial
"""A trial in training, or one as it was read."""


@dataclass(frozen=True)
class TrialResult:
    """Values of a trial's objectives, None if it was pruned, and metrics of its run by tag."""

    values: Sequence[float] | None
    metrics: Mapping[str, float]


PRUNED = TrialResult(None, {})


class SweepStudy(optuna.Study):
    """The study of a sweep: a `JobSource` and a `WatchedSource` of trials.

    The seed is that of its sampler; `default` are the parameters of trial 0, by name.
    """

    def __init__(self, sweep: Sweep, storage: RDBStorage, seed: int, default: Mapping[str, Any]) -> None:
        super().__init__(
            study_name=sweep.name,
            storage=storage,
            sampler=NumberedSampler(sweep.sampler, seed, default, sweep.trust),
            pruner=build_pruner(sweep.pruner, sweep.trust),
        )
        self._sweep = sweep
        self.storage = storage

    def stop(self) -> None:
        """Record that the sampler, which calls this, has tried all values."""
        self.set_user_attr(EXHAUSTED, True)

    @property
    def outages(self) -> tuple[type[Exception], ...]:
        return STORAGE_ERRORS

    @property
    def heartbeat_interval(self) -> float:
        assert self.storage.heartbeat_interval is not None
        return self.storage.heartbeat_interval

    def record(self) -> TrialRecord:
        """Return the record of the trials at this moment."""
        trials = self.get_trials(deepcopy=False)
        record = TrialRecord.of(trials, self._sweep.n_trials)
        return TrialRecord(record.attempts, 0) if record.missing and self.user_attrs.get(EXHAUSTED) else record

    def is_settled(self) -> bool:
        return self.record().is_settled

    def jobs(self) -> Jobs[AnyTrial]:
        record = self.record()
        taken = [
            TakenJob[AnyTrial](
                trial,
                worker=trial.user_attrs[WORKER],
                directory=directory_of(self._sweep, first_attempt(trial)),
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
            for failed in record.owed:
                self.add_trial(_retry(failed))
            for waiting in record.waiting:
                if self._taken(waiting):
                    trial = Trial(self, waiting._trial_id)
                    with contextlib.suppress(UpdateFinishedTrialError):
                        trial.set_user_attr(WORKER, worker)
                        return trial
            if record.owed:
                continue
            if record.missing:
                self.add_trial(create_trial(state=TrialState.WAITING))
            elif not record.waiting:
                return None

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

    def complete(self, trial: Trial, result: TrialResult) -> None:
        with contextlib.suppress(UpdateFinishedTrialError):
            if result.values is None:
                self.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            else:
                trial.set_user_attr(METRICS, dict(result.metrics))
                self.tell(trial, list(result.values))

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


def directory_of(sweep: Sweep, number: int) -> Path:
    """Return the directory of a trial, by the number of its first attempt."""
    return Path(sweep.output) / "trials" / f"{number:04}"


def _retry(failed: FrozenTrial) -> FrozenTrial:
    return create_trial(
        state=TrialState.WAITING,
        params=failed.params,
        distributions=failed.distributions,
        intermediate_values=failed.intermediate_values,
        user_attrs={RETRY_OF: failed.number, FIRST_ATTEMPT: first_attempt(failed)},
    )
