"""A worker process, which reads its assignment from standard input and takes jobs until all have ended.

Slow imports wait until signals are handled.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypedDict

from poslab.training.worker import die_with

if TYPE_CHECKING:
    from poslab.experiments.pool.source import JobSource
    from poslab.experiments.pool.work import Train

FULL_DISK = 3
"""Exit status if nothing can be written any more: another worker would not help."""


class Assignment(TypedDict):
    """Settings of a worker: its name, threads of PyTorch, directory of its lock, and plain data to open its source."""

    name: str
    threads: int
    locks: str
    order: dict[str, Any]


def stop_request() -> Callable[[], None]:
    """Return a function that raises RunInterruptedError after a signal to stop; within a run, the run handles it."""
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: received.append(number))

    def check_cancelled() -> None:
        from poslab.runs.errors import RunInterruptedError

        if received:
            raise RunInterruptedError(received[-1])

    return check_cancelled


def run_worker(open_source: Callable[[Any], tuple[JobSource[Any, Any], Train[Any, Any]]]) -> None:
    """Run a worker of the process whose id is the first argument of this one, and exit.

    `open_source` returns the source of an order, and a function that trains its jobs.
    """
    die_with(int(sys.argv[1]))
    status = _work(json.load(sys.stdin), open_source)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)  # without waiting for the threads of libraries


def _work(assignment: Assignment, open_source: Callable[[Any], tuple[JobSource[Any, Any], Train[Any, Any]]]) -> int:
    """Take jobs until all have ended; return the exit status."""
    check_cancelled = stop_request()

    from pathlib import Path

    import torch

    from poslab.experiments.pool.locks import locked
    from poslab.experiments.pool.work import work
    from poslab.io.terminal import one_line
    from poslab.runs.errors import DiskError, RunInterruptedError

    torch.set_num_threads(assignment["threads"])
    try:
        with locked(Path(assignment["locks"]), assignment["name"]):
            source, train = open_source(assignment["order"])
            work(source, train, assignment["name"], check_cancelled)
    except RunInterruptedError as stopped:
        return stopped.exit_status
    except DiskError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr, flush=True)
        return FULL_DISK
    return 0
