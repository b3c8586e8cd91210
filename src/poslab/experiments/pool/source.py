"""Sources of jobs, from which workers take them, and to which they report the results.

A job is one attempt at a piece of work, such as a trial of a sweep. Any number of processes and machines share a
source. Each of them may be killed at any moment, and must leave the source in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from poslab.experiments.pool.failure import Failure

J = TypeVar("J")
"""A job, as its source names it."""

R = TypeVar("R", contravariant=True)
"""The result of a job."""


class JobLostError(Exception):
    """The job in training no longer belongs to this worker: another process failed it, since no heartbeat came."""


@dataclass(frozen=True)
class TakenJob(Generic[J]):
    """State of a job that a worker has taken: it runs, or has ended, or was failed since no heartbeat came (lost)."""

    job: J
    worker: str
    directory: Path
    is_running: bool
    is_lost: bool


@dataclass(frozen=True)
class Jobs(Generic[J]):
    """State of a source: the number of unfinished jobs, without retries, and the jobs taken so far, in order."""

    unfinished: int
    taken: Sequence[TakenJob[J]]

    def taken_by(self, worker: str) -> list[TakenJob[J]]:
        """Return the jobs that a worker has taken, in order."""
        return [job for job in self.taken if job.worker == worker]


class JobSource(Protocol[J, R]):
    """A source as its workers see it. All methods but `take` do nothing to a job that has ended."""

    @property
    def outages(self) -> tuple[type[Exception], ...]:
        """Errors of a source that cannot be reached, perhaps for a moment."""

    @property
    def heartbeat_interval(self) -> float:
        """Seconds between two heartbeats."""

    def is_settled(self) -> bool:
        """Return whether every job has ended."""

    def take(self, worker: str) -> J | None:
        """Take a job that nobody else has, in the name of a worker; return None if there is none at this moment."""

    def heartbeat(self, job: J) -> None:
        """Record a heartbeat of a job."""

    def complete(self, job: J, result: R) -> None:
        """End a job with its result."""

    def fail(self, job: J, failure: Failure) -> None:
        """End a job that failed, so that it is retried if it may be."""

    def put_back(self, job: J) -> None:
        """Give a job that was stopped back to the source."""


class WatchedSource(Protocol[J]):
    """A source as the supervisor of its workers sees it."""

    @property
    def outages(self) -> tuple[type[Exception], ...]:
        """Errors of a source that cannot be reached, perhaps for a moment."""

    def jobs(self) -> Jobs[J]:
        """Return the present state of all jobs."""

    def fail(self, job: J, failure: Failure) -> None:
        """End a running job that failed; do nothing if it has ended, or another worker has taken it since."""

    def fail_silent(self) -> None:
        """Fail the jobs whose heartbeat has stopped."""
