"""The work of a worker: take jobs, one after another, and record the result of each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

from poslab.experiments.pool.failure import failure_of, is_a_bug
from poslab.experiments.pool.heartbeat import beating
from poslab.experiments.pool.source import J, JobLostError, JobSource
from poslab.runs.errors import DiskError, RunInterruptedError

Result = TypeVar("Result")

Train = Callable[[J, Callable[[], None]], Result]
"""A function that trains the runs of a job and returns its result. It calls its second argument before each run, which
raises RunInterruptedError after a signal.
"""

SECONDS_BETWEEN_LOOKS = 1.0
"""Pause of a worker without a job: one of another worker may fail."""


def work(
    source: JobSource[J, Result], train: Train[J, Result], worker: str, check_cancelled: Callable[[], None]
) -> None:
    """Take jobs in the name of a worker until all have ended; `check_cancelled` raises RunInterruptedError.

    Raises:
        RunInterruptedError, DiskError, Exception: as `run_job`.
    """
    while not source.is_settled():
        check_cancelled()
        job = source.take(worker)
        if job is None:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            continue
        with beating(source, job):
            run_job(source, job, train, check_cancelled)


def run_job(source: JobSource[J, Result], job: J, train: Train[J, Result], check_cancelled: Callable[[], None]) -> None:
    """Train a job that was taken, and complete or fail it.

    Raises:
        RunInterruptedError: after a signal; the job waits again, to be resumed.
        DiskError: if nothing more can be written.
        Exception: for a bug, after the job has failed; this process cannot be trusted then.
    """
    try:
        result = train(job, check_cancelled)
    except JobLostError:
        return
    except RunInterruptedError:
        source.put_back(job)
        raise
    except DiskError as error:
        with contextlib.suppress(*source.outages):  # the source may be on the same disk
            source.fail(job, failure_of(error))
        raise
    except Exception as error:
        source.fail(job, failure_of(error, source.outages))
        if is_a_bug(error):
            raise
    else:
        source.complete(job, result)
