"""Locks that end with their process: they prove which workers of this machine are dead."""

from __future__ import annotations

import contextlib
import fcntl
import platform
import uuid
from collections.abc import Iterator
from pathlib import Path

from poslab.pool.failure import KILLED
from poslab.pool.source import J, WatchedSource


def worker_name() -> str:
    """Return a name for a worker of this machine that no other has."""
    return f"{platform.node()}-{uuid.uuid4().hex[:8]}"


@contextlib.contextmanager
def locked(directory: Path, worker: str) -> Iterator[None]:
    """Hold a lock in the name of a worker, which ends with this process however that ends."""
    directory.mkdir(parents=True, exist_ok=True)
    with _lock_file(directory, worker).open("w") as file:
        with contextlib.suppress(OSError):  # a file system without locks: heartbeats must do
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
        _lock_file(directory, worker).unlink(missing_ok=True)  # not after an error: a free lock is evidence


@contextlib.contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Keep other commands from writing into a directory that several machines share."""
    with (directory / ".lock").open("w") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_dead(directory: Path, worker: str) -> bool:
    """Return whether a worker of this machine that locked a file in a directory has ended; False if that is not known.

    The lock of another machine may be free here although that machine holds it: not all file systems share locks.
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
    """Fail the jobs whose workers have died, so that they are retried.

    Args:
        source: the source.
        directory: where the workers of this machine lock files.
    """
    source.fail_silent()
    for job in source.jobs().taken:
        if job.is_running and is_dead(directory, job.worker):
            source.fail(job.job, KILLED)


def _lock_file(directory: Path, worker: str) -> Path:
    return directory / f"{worker}.lock"
