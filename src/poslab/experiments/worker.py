"""A worker process: `python -m poslab.experiments.worker COMMAND` takes jobs until all have ended.

It reads its assignment from standard input. Slow imports wait until signals are handled.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypedDict

from poslab.training.worker import die_with

if TYPE_CHECKING:
    from poslab.experiments.jobs import Job, Jobs

FULL_DISK = 3  # exit status if nothing can be written any more: another worker would not help
POLL_INTERVAL_S = 1.0  # pause of a worker without a job: one of another worker may fail

Train = Callable[["Job", Callable[[], None]], Any]
"""A function that trains the runs of a job and returns its result.

It calls its second argument before each run, which raises RunInterruptedError after a signal.
"""


class Assignment(TypedDict):
    """Settings of a worker: its name, threads of PyTorch, directory of its lock, and plain data to open its jobs."""

    name: str
    threads: int
    locks: str
    order: dict[str, Any]


def open_jobs(order: dict[str, Any]) -> tuple[Jobs[Any], Train]:
    """Return the jobs of an order, with a `sweep` or the `plan` of a comparison, and a function that trains them."""
    from functools import partial
    from pathlib import Path

    if "sweep" in order:
        from poslab.experiments.search import SweepJobs
        from poslab.experiments.sweep import Sweep
        from poslab.experiments.trial_run import TrialConfigurations, train_trial

        sweep = Sweep(**order["sweep"])
        trials = SweepJobs(sweep, order["seed"], order["default"])
        return trials, partial(train_trial, trials, TrialConfigurations(Path(order["conf"]), sweep))

    from poslab.experiments.cell_run import train_cell
    from poslab.experiments.comparison import Comparison
    from poslab.experiments.configurations import CellConfigurations
    from poslab.experiments.plan import CellPlan, ComparisonJobs, ledger_of

    comparison = Comparison(**order["plan"]["comparison"])
    cells = ComparisonJobs(CellPlan(**{**order["plan"], "comparison": comparison}), ledger_of(comparison))
    return cells, partial(train_cell, cells, CellConfigurations(Path(order["conf"]), comparison))


def run_worker(open_jobs: Callable[[Any], tuple[Jobs[Any], Train]]) -> None:
    """Run a worker of the process whose id is the first argument of this one, and exit."""
    die_with(int(sys.argv[1]))
    status = _work(json.load(sys.stdin), open_jobs)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)  # without waiting for the threads of libraries


def _work(assignment: Assignment, open_jobs: Callable[[Any], tuple[Jobs[Any], Train]]) -> int:
    """Take jobs until all have ended; return the exit status."""
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):  # within a run, the run handles them
        signal.signal(number, lambda number, _: received.append(number))
    gc.disable()  # as for poslab.training.worker

    from pathlib import Path

    import torch

    from poslab.experiments.jobs import locked
    from poslab.io.terminal import print_error
    from poslab.runs.errors import DiskError, RunInterruptedError

    def check_cancelled() -> None:
        if received:
            raise RunInterruptedError(received[-1])

    torch.set_num_threads(assignment["threads"])
    try:
        with locked(Path(assignment["locks"]), assignment["name"]):
            jobs, train = open_jobs(assignment["order"])
            gc.enable()
            while jobs.snapshot().unfinished:
                check_cancelled()
                if (job := jobs.take(assignment["name"])) is None:
                    time.sleep(POLL_INTERVAL_S)
                    continue
                with beating(jobs, job):
                    run_job(jobs, job, train, check_cancelled)
    except RunInterruptedError as stopped:
        return stopped.exit_status
    except DiskError as error:
        print_error(str(error))
        return FULL_DISK
    return 0


@contextlib.contextmanager
def beating(jobs: Jobs[Any], job: Job) -> Iterator[None]:
    """Record heartbeats of a job in a thread."""
    from poslab.experiments.jobs import BEATS

    over = threading.Event()

    def beat() -> None:
        while not over.wait(max(1, jobs.lost_after // BEATS)):
            with contextlib.suppress(*jobs.outages):  # the next heartbeat may succeed
                jobs.beat(job)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def run_job(jobs: Jobs[Any], job: Job, train: Train, check_cancelled: Callable[[], None]) -> None:
    """Train a job that was taken, and complete or fail it.

    Raises:
        RunInterruptedError: after a signal; the job waits again, to be resumed.
        DiskError: if nothing more can be written.
        Exception: for a bug, after the job has failed; this process cannot be trusted then.
    """
    import torch

    from poslab.experiments.jobs import JobLostError, failure_of
    from poslab.runs.errors import DiskError, RunInterruptedError, RunStoppedError

    try:
        result = train(job, check_cancelled)
    except JobLostError:
        return
    except RunInterruptedError:
        jobs.put_back(job)
        raise
    except DiskError as error:
        with contextlib.suppress(*jobs.outages):  # the records may be on the same disk
            jobs.fail(job, failure_of(error))
        raise
    except Exception as error:
        jobs.fail(job, failure_of(error, jobs.outages))
        if not isinstance(error, RunStoppedError | ValueError | MemoryError | torch.OutOfMemoryError | OSError):
            raise
    else:
        jobs.complete(job, result)


if __name__ == "__main__":
    run_worker(open_jobs)
