"""Locks that end with their process, and so prove which workers of this machine are dead."""

from __future__ import annotations

import contextlib
import fcntl
import platform
import uuid
from collections.abc import Iterator
from pathlib import Path

from poslab.experiments.pool.failure import KILLED
from poslab.experiments.pool.source import J, WatchedSource
from poslab.io.files import lock


def worker_name() -> str:
    """Return a unique name for a worker of this machine."""
    return f"{platform.node()}-{uuid.uuid4().hex[:8]}"


@contextlib.contextmanager
def locked(directory: Path, worker: str) -> Iterator[None]:
    """Hold a lock for a worker, which ends with this process in any case."""
    directory.mkdir(parents=True, exist_ok=True)
    with _lock_file(directory, worker).open("w") as file:
        lock(file)  # without locks in the file system, heartbeats must suffice
        yield
        _lock_file(directory, worker).unlink(missing_ok=True)  # but not after an error: a free lock is evidence


@contextlib.contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Prevent other commands from writing into a directory that several machines share."""
    with (directory / ".lock").open("w") as file:
        lock(file)
        yield


def is_dead(directory: Path, worker: str) -> bool:
    """Return whether a worker of this machine that locked a file in a directory has ended; False if unknown.

    A lock of another machine may look free here: not all file systems share locks.
    """
    if not worker.startswith(f"{platform.node()}-"):
        return False
    try:
        with _lock_file(directory, worker).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError:  # it is locked, or there is no such file or lock
        return False


def fail_lost(source: WatchedSource[J], directory: Path) -> None:
    """Fail the jobs of dead workers, so that they are retried; `directory` has the locks of this machine's workers."""
    source.fail_silent()
    for job in source.jobs().taken:
        if job.is_running and is_dead(directory, job.worker):
            source.fail(job.job, KILLED)


def _lock_file(directory: Path, worker: str) -> Path:
    return directory / f"{worker}.lock"
