"""Trial record of a study: the trials that are finished, those owed a retry, and those to be taken next.

Any number of processes and machines work on a study, and each may be killed at any moment. None of them keeps count:
the record is made from the trials, by number, so that all who read the same trials make the same record.

The first `n_trials` trials that are not retries are the budget. If two machines make the last trial at the same time,
one too many stays waiting, for a larger budget. A retry of a failed trial points to it; of two that do, the later one
stays waiting.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, Trial, TrialState

from poslab.experiments.pool.failure import LOST, Failure
from poslab.experiments.pool.retries import FailedAttempt, may_retry
from poslab.experiments.tuning.attributes import (
    BEGAN_AFTER,
    CAN_PASS,
    FIRST_ATTEMPT,
    FROM_OUTSIDE,
    METRICS,
    REASON,
    RETRY_OF,
    WORKER,
    DamagedStorageError,
)

TYPES = {WORKER: str | None, RETRY_OF: int, BEGAN_AFTER: int, METRICS: dict}
"""Types of user attributes of trials."""

AnyTrial = Trial | FrozenTrial
"""A trial in training, or one as it was read."""


@dataclass(frozen=True)
class TrialRecord:
    """The record of a study's trials at one moment.

    It has the attempts at each trial in the budget, in order, and the number of trials still missing. `finished_since`
    are the numbers of failed attempts whose run somebody has finished since, and which are retried whatever the reason.
    """

    attempts: list[list[FrozenTrial]]
    missing: int
    finished_since: Collection[int] = ()

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial], n_trials: int) -> TrialRecord:
        """Return the record of all trials of a study under a budget of `n_trials`."""
        firsts = first_attempts(trials)[:n_trials]
        return cls.following(firsts, trials, n_trials - len(firsts))

    @classmethod
    def following(
        cls,
        firsts: Sequence[FrozenTrial],
        trials: Sequence[FrozenTrial],
        missing: int,
        finished_since: Collection[int] = (),
    ) -> TrialRecord:
        """Return the record of the trials in the budget, by their first attempts, in order, among all of a study."""
        retries: dict[int, FrozenTrial] = {}
        for trial in sorted(trials, key=lambda trial: trial.number):
            if RETRY_OF in trial.user_attrs:
                retries.setdefault(trial.user_attrs[RETRY_OF], trial)
        attempts = []
        for trial in firsts:
            chain = [trial]
            while chain[-1].number in retries:
                chain.append(retries[chain[-1].number])
            attempts.append(chain)
        return cls(attempts, missing, finished_since)

    @property
    def all_attempts(self) -> list[FrozenTrial]:
        """Attempts at all trials, by number."""
        return sorted(itertools.chain(*self.attempts), key=lambda trial: trial.number)

    @property
    def latest(self) -> list[FrozenTrial]:
        """Latest attempt of each trial."""
        return [chain[-1] for chain in self.attempts]

    @property
    def pending_retries(self) -> list[FrozenTrial]:
        """Failed attempts of which a retry is still to be made."""
        return [
            chain[-1]
            for chain in self.attempts
            if chain[-1].state == TrialState.FAIL and (chain[-1].number in self.finished_since or _may_retry(chain))
        ]

    @property
    def waiting(self) -> list[FrozenTrial]:
        """Trials that can be taken, the oldest first."""
        return [trial for trial in self.latest if trial.state == TrialState.WAITING]

    @property
    def running(self) -> list[FrozenTrial]:
        """Trials that somebody has taken."""
        return [trial for trial in self.latest if trial.state == TrialState.RUNNING]

    @property
    def finished(self) -> list[FrozenTrial]:
        """Trials that are complete, pruned, or failed and not to be retried."""
        pending_retries = {trial.number for trial in self.pending_retries}
        return [trial for trial in self.latest if trial.state.is_finished() and trial.number not in pending_retries]

    @property
    def unfinished(self) -> int:
        """Number of trials of the budget that are still to be made, or to come to their end."""
        return len(self.attempts) + self.missing - len(self.finished)

    def in_state(self, state: TrialState) -> list[FrozenTrial]:
        """Return the finished trials that ended in a state."""
        return [trial for trial in self.finished if trial.state == state]

    @property
    def is_settled(self) -> bool:
        """True if all trials of the budget are finished."""
        return self.unfinished == 0


def _may_retry(chain: Sequence[FrozenTrial]) -> bool:
    return may_retry([FailedAttempt(recorded_failure(t), t.user_attrs.get(BEGAN_AFTER, -1)) for t in chain])


def check_trials(trials: Sequence[FrozenTrial], objectives: int) -> None:
    """Raise DamagedStorageError for trials of a study with so many objectives that no version of Poslab writes."""
    for trial in trials:
        kept = trial.user_attrs
        wrong = [name for name, kind in TYPES.items() if name in kept and not isinstance(kept[name], kind)]
        if not wrong and not all(isinstance(value, int | float) for value in kept.get(METRICS, {}).values()):
            wrong = [METRICS]
        values = trial.values or []
        are_finite = all(isinstance(value, float) and math.isfinite(value) for value in values)
        if trial.state == TrialState.COMPLETE and not (len(values) == objectives and are_finite):
            wrong = ["value"]
        if not all(type(number) is int and number >= 0 for number in (trial.number, first_attempt(trial))):
            wrong = ["number"]
        if wrong:
            raise DamagedStorageError(f"is damaged: the {wrong[0]} of trial {trial.number} is none that Poslab writes")


def first_attempts(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that are not retries, by number."""
    return [trial for trial in sorted(trials, key=lambda trial: trial.number) if RETRY_OF not in trial.user_attrs]


def begun_trials(trials: Sequence[FrozenTrial]) -> int:
    """Return the smallest budget that includes every trial that was taken."""
    places = enumerate(first_attempts(trials), start=1)
    return max((place for place, trial in places if trial.state != TrialState.WAITING), default=0)


def first_attempt(trial: AnyTrial) -> int:
    """Return the number of the trial that this one is an attempt at: its own, unless it is a retry."""
    number: int = trial.user_attrs.get(FIRST_ATTEMPT, trial.number)
    return number


def planned_number(trial: AnyTrial, trials: Sequence[FrozenTrial]) -> int:
    """Return the number of a trial among those of a study that are not retries; a retry has that of its first."""
    return sum(first.number < first_attempt(trial) for first in trials if RETRY_OF not in first.user_attrs)


def default_trial(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Return the attempt at trial 0, the default, among these trials; None if there is none."""
    return next((trial for trial in trials if first_attempt(trial) == 0), None)


def recorded_failure(trial: FrozenTrial) -> Failure:
    """Return the failure of a trial; Optuna fails one whose heartbeat has stopped without a reason."""
    kept = trial.user_attrs
    return Failure(
        reason=str(kept.get(REASON, LOST.reason)),
        can_pass=bool(kept.get(CAN_PASS, LOST.can_pass)),
        from_outside=bool(kept.get(FROM_OUTSIDE, CAN_PASS not in kept)),
    )


def is_lost(trial: FrozenTrial) -> bool:
    """Return whether Optuna failed a trial because its heartbeat had stopped."""
    return trial.state == TrialState.FAIL and REASON not in trial.user_attrs
