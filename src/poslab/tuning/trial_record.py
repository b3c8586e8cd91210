"""The record of a study's trials: which are finished, which are owed a retry, and which are to be taken next.

Any number of processes and machines work on a study, and each may be killed at any moment. None of them keeps count:
the record is made from the trials, by number, so that everyone who reads the same trials comes to the same one.

The first `n_trials` trials that are not retries are the budget. Two machines that make the last trial at the same time
make one too many, which then stays waiting, for a larger budget. A trial that failed and may be retried is retried by a
trial that points to it; of two that do, the later one stays waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from poslab.pool.failure import LOST, Failure
from poslab.pool.retries import FailedAttempt, may_retry
from poslab.tuning.attributes import BEGAN_AFTER, CAN_PASS, FIRST_ATTEMPT, FROM_OUTSIDE, REASON, RETRY_OF


@dataclass(frozen=True)
class TrialRecord:
    """The record of a study's trials at one moment.

    Args:
        attempts: of each trial in the budget, by number, its attempts in order.
        missing: how many trials are still to be made.
    """

    attempts: list[list[FrozenTrial]]
    missing: int

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial], n_trials: int) -> TrialRecord:
        """Return the record of a study.

        Args:
            trials: all trials of the study.
            n_trials: the budget.
        """
        trials = sorted(trials, key=lambda trial: trial.number)
        retries: dict[int, FrozenTrial] = {}
        for trial in trials:
            if RETRY_OF in trial.user_attrs:
                retries.setdefault(trial.user_attrs[RETRY_OF], trial)
        firsts = [trial for trial in trials if RETRY_OF not in trial.user_attrs][:n_trials]
        attempts = []
        for trial in firsts:
            chain = [trial]
            while chain[-1].number in retries:
                chain.append(retries[chain[-1].number])
            attempts.append(chain)
        return cls(attempts, n_trials - len(attempts))

    @property
    def latest(self) -> list[FrozenTrial]:
        """Latest attempt of each trial."""
        return [chain[-1] for chain in self.attempts]

    @property
    def owed(self) -> list[FrozenTrial]:
        """Failed attempts of which a retry is still to be made."""
        return [
            chain[-1]
            for chain in self.attempts
            if chain[-1].state == TrialState.FAIL
            and may_retry([FailedAttempt(recorded_failure(t), t.user_attrs.get(BEGAN_AFTER, -1)) for t in chain])
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
        owed = {trial.number for trial in self.owed}
        return [trial for trial in self.latest if trial.state.is_finished() and trial.number not in owed]

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


def begun_trials(trials: Sequence[FrozenTrial]) -> int:
    """Return the smallest budget that holds every trial which somebody has taken."""
    firsts = [trial for trial in sorted(trials, key=lambda trial: trial.number) if RETRY_OF not in trial.user_attrs]
    return max((place for place, trial in enumerate(firsts, start=1) if trial.state != TrialState.WAITING), default=0)


def first_attempt(trial: FrozenTrial) -> int:
    """Return the number of the trial that this one is an attempt at: its own, unless it is a retry."""
    number: int = trial.user_attrs.get(FIRST_ATTEMPT, trial.number)
    return number


def recorded_failure(trial: FrozenTrial) -> Failure:
    """Return why a trial failed; one without a reason was failed by Optuna, since its heartbeat had stopped."""
    kept = trial.user_attrs
    return Failure(
        reason=str(kept.get(REASON, LOST.reason)),
        can_pass=bool(kept.get(CAN_PASS, LOST.can_pass)),
        from_outside=bool(kept.get(FROM_OUTSIDE, CAN_PASS not in kept)),
    )


def is_lost(trial: FrozenTrial) -> bool:
    """Return whether a trial was failed because its heartbeat had stopped."""
    return trial.state == TrialState.FAIL and REASON not in trial.user_attrs
