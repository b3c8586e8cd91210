"""The work of a worker: take jobs, one after another, and record what became of each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

from poslab.pool.failure import failure_of, is_a_bug
from poslab.pool.heartbeat import beating
from poslab.pool.source import J, JobLostError, JobSource
from poslab.runs.errors import DiskError, RunInterruptedError

Result = TypeVar("Result")

Train = Callable[[J, Callable[[], None]], Result]
"""Trains the runs of a job and returns its result. The second argument raises RunInterruptedError if this process was
asked to stop; it is called before each run.
"""

SECONDS_BETWEEN_LOOKS = 1.0
"""Pause of a worker that finds nothing to take: a job of another worker may fail."""


def work(source: JobSource[J, Result], train: Train[J, Result], worker: str, heed: Callable[[], None]) -> None:
    """Take jobs until all have come to their end.

    Args:
        source: the source.
        train: trains a job.
        worker: name of this worker.
        heed: raises RunInterruptedError if this process was asked to stop.

    Raises:
        RunInterruptedError, DiskError, Exception: as `run_job` does.
    """
    while not source.is_settled():
        heed()
        job = source.take(worker)
        if job is None:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            continue
        with beating(source, job):
            run_job(source, job, train, heed)


def run_job(source: JobSource[J, Result], job: J, train: Train[J, Result], heed: Callable[[], None]) -> None:
    """Train a job that was taken, and end it: complete or failed.

    Raises:
        RunInterruptedError: if a signal asked for it; the job then waits again, and goes on where it was.
        DiskError: if nothing more can be written.
        Exception: a bug, after the job has failed; this process is not to be trusted then.
    """
    try:
        result = train(job, heed)
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
