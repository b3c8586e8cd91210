"""The study of a sweep."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from poslab.experiments.tuning.attributes import EXHAUSTED, METRICS
from poslab.experiments.tuning.queue import TrialQueue
from poslab.experiments.tuning.sampling import NumberedSampler, build_pruner
from poslab.experiments.tuning.sweep import Sweep
from poslab.experiments.tuning.trial_record import AnyTrial, TrialRecord, first_attempt


@dataclass(frozen=True)
class TrialResult:
    """Values of a trial's objectives, None if it was pruned, and metrics of its run by tag."""

    values: Sequence[float] | None
    metrics: Mapping[str, float]


PRUNED = TrialResult(None, {})


class SweepStudy(TrialQueue):
    """The study of a sweep: a `JobSource` and a `WatchedSource` of trials.

    The seed is that of its sampler; `default` are the parameters of trial 0, by name.
    """

    def __init__(self, sweep: Sweep, storage: RDBStorage, seed: int, default: Mapping[str, Any]) -> None:
        sampler = NumberedSampler(sweep.sampler, seed, default, sweep.trust)
        super().__init__(sweep.name, storage, sampler, build_pruner(sweep.pruner, sweep.trust))
        self._sweep = sweep

    def stop(self) -> None:
        """Record that the sampler, which calls this, has tried all values."""
        self.set_user_attr(EXHAUSTED, True)

    def record(self) -> TrialRecord:
        trials = self.checked_trials()
        record = TrialRecord.of(trials, self._sweep.n_trials)
        return TrialRecord(record.attempts, 0) if record.missing and self.user_attrs.get(EXHAUSTED) else record

    def new_trial(self, record: TrialRecord) -> FrozenTrial | None:
        return create_trial(state=TrialState.WAITING) if record.missing else None

    def directory_of(self, trial: AnyTrial) -> Path:
        return directory_of(self._sweep, first_attempt(trial))

    def complete(self, trial: Trial, result: TrialResult) -> None:
        with contextlib.suppress(UpdateFinishedTrialError):
            if result.values is None:
                self.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            else:
                trial.set_user_attr(METRICS, dict(result.metrics))
                self.tell(trial, list(result.values))


def directory_of(sweep: Sweep, number: int) -> Path:
    """Return the directory of a trial, by the number of its first attempt."""
    return Path(sweep.output) / "trials" / f"{number:04}"
