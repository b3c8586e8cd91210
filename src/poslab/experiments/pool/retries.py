"""Rule of retries: a job that makes progress between its failures is never given up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from poslab.experiments.pool.failure import Failure

MAX_RETRIES = 2
"""Retries after failures of the job itself without progress in between."""

MAX_KILLS = 20
"""Retries after kills from outside without progress in between: a kill for the memory of the job can look the same."""


@dataclass(frozen=True)
class FailedAttempt:
    """An attempt at a job that failed.

    `began_after` are the steps of the job's runs that had been saved when it began to train; -1 if it did not begin.
    """

    failure: Failure
    began_after: int = -1


def may_retry(attempts: Sequence[FailedAttempt]) -> bool:
    """Return whether a job gets another attempt, after all of its attempts (at least 1) in order.

    An attempt that begins after more saved steps than all earlier ones proves progress, and earlier failures no longer
    count.
    """
    farthest, since = -1, 0
    for index, attempt in enumerate(attempts):
        if attempt.began_after > farthest:
            farthest, since = attempt.began_after, index
    kills = sum(attempt.failure.from_outside for attempt in attempts[since:])
    failures = len(attempts) - since - kills
    return attempts[-1].failure.can_pass and failures <= MAX_RETRIES and kills <= MAX_KILLS
