"""What the trials of a study add up to: which are finished, which are owed, and which are to be taken next.

Any number of processes and machines work on a study, and each may be killed at any moment. None of them keeps count:
all is read from the trials, by number, so that everyone who reads them comes to the same account.

The first `n_trials` trials that are no retries are the budget. Two machines that make the last trial at the same time
make one too many, which then stays waiting, for a larger budget. A trial that failed for a reason that can pass is
retried by a trial that points to it; of two that do, the later one stays waiting. An attempt that begins after more
saved steps than those before it proves progress: what failed before it does not count any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from poslab.tuning.attributes import BEGAN_AFTER, CAN_PASS, FIRST_ATTEMPT, FROM_OUTSIDE, REASON, RETRY_OF

MOST_RETRIES = 2
"""Of a trial that failed by itself, without progress in between."""

MOST_KILLS = 20
"""From outside, without progress in between, after which a trial is given up: a worker that the system kills for the
memory that its trial takes can look the same.
"""

LOST = "its worker was lost without a word"
"""The reason of a trial that failed without one."""


@dataclass(frozen=True)
class Ledger:
    """An account.

    Args:
        attempts: of each trial in the budget, by number, its attempts in order.
        missing: how many trials are still to be made.
    """

    attempts: list[list[FrozenTrial]]
    missing: int

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial], n_trials: int) -> Ledger:
        """The account of a study.

        Args:
            trials: all of them.
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
        """The latest attempt of each trial."""
        return [chain[-1] for chain in self.attempts]

    @property
    def owed(self) -> list[FrozenTrial]:
        """The failed attempts of which a retry is still to be made."""
        return [
            chain[-1] for chain in self.attempts if chain[-1].state == TrialState.FAIL and _may_be_tried_again(chain)
        ]

    @property
    def waiting(self) -> list[FrozenTrial]:
        """What can be taken, the oldest first."""
        return [trial for trial in self.latest if trial.state == TrialState.WAITING]

    @property
    def running(self) -> list[FrozenTrial]:
        """What somebody has taken."""
        return [trial for trial in self.latest if trial.state == TrialState.RUNNING]

    @property
    def finished(self) -> list[FrozenTrial]:
        """What is complete, pruned, or failed and not to be retried."""
        owed = {trial.number for trial in self.owed}
        return [trial for trial in self.latest if trial.state.is_finished() and trial.number not in owed]

    @property
    def unfinished(self) -> int:
        """How many trials of the budget are still to be made, or to come to their end."""
        return len(self.attempts) + self.missing - len(self.finished)

    def in_state(self, state: TrialState) -> list[FrozenTrial]:
        """The finished trials that ended in a state."""
        return [trial for trial in self.finished if trial.state == state]

    @property
    def is_settled(self) -> bool:
        """Whether the budget is used up and everything is finished."""
        return self.unfinished == 0


def begun_trials(trials: Sequence[FrozenTrial]) -> int:
    """Return the smallest budget that holds every trial which somebody has taken."""
    firsts = [trial for trial in sorted(trials, key=lambda trial: trial.number) if RETRY_OF not in trial.user_attrs]
    return max((place for place, trial in enumerate(firsts, start=1) if trial.state != TrialState.WAITING), default=0)


def can_pass(trial: FrozenTrial) -> bool:
    """Whether a failed trial may do better a second time; one that was lost without a word may."""
    return bool(trial.user_attrs.get(CAN_PASS, True))


def _may_be_tried_again(chain: Sequence[FrozenTrial]) -> bool:
    """Return whether a failed trial gets another attempt, from its attempts in order."""
    farthest, since = -1, 0
    for index, attempt in enumerate(chain):
        began_after = attempt.user_attrs.get(BEGAN_AFTER, -1)
        if began_after > farthest:
            farthest, since = began_after, index
    kills = sum(map(is_from_outside, chain[since:]))
    failures = len(chain) - since - kills
    return can_pass(chain[-1]) and failures <= MOST_RETRIES and kills <= MOST_KILLS


def is_from_outside(trial: FrozenTrial) -> bool:
    """Return whether somebody ended the worker of a failed trial; one that was lost without a word was."""
    return bool(trial.user_attrs.get(FROM_OUTSIDE, CAN_PASS not in trial.user_attrs))


def first_attempt(trial: FrozenTrial) -> int:
    """The number of the trial that this one is an attempt of: its own, unless it is a retry."""
    number: int = trial.user_attrs.get(FIRST_ATTEMPT, trial.number)
    return number


def is_lost(trial: FrozenTrial) -> bool:
    """Whether a trial was failed by others, since its worker was silent."""
    return trial.state == TrialState.FAIL and reason(trial).startswith(LOST)


def reason(trial: FrozenTrial) -> str:
    """Why a trial failed, in a few words."""
    return str(trial.user_attrs.get(REASON, LOST))
