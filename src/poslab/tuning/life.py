"""Which trials are alive: workers hold a lock and give signs of life, and whoever sees neither calls a trial lost."""

from __future__ import annotations

import contextlib
import fcntl
import platform
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from poslab.tuning.attributes import WORKER
from poslab.tuning.storage import STORAGE_ERRORS
from poslab.tuning.study import SweepStudy


def worker_name() -> str:
    """A name for a worker of this machine that no other has."""
    return f"{platform.node()}-{uuid.uuid4().hex[:8]}"


@contextlib.contextmanager
def kept_alive(study: SweepStudy, trial: Trial, interval: float) -> Iterator[None]:
    """Within it a thread says again and again that a trial is alive.

    Args:
        study, trial: which.
        interval: seconds.
    """
    over = threading.Event()

    def beat() -> None:
        while not over.wait(interval):
            try:
                study.storage.record_heartbeat(trial._trial_id)
            except STORAGE_ERRORS:  # it cannot be reached at this moment: the next beat may
                continue

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def locked(directory: Path, worker: str) -> Iterator[None]:
    """Within it this process holds a lock in the name of a worker, which ends with the process however that ends."""
    directory.mkdir(parents=True, exist_ok=True)
    with _lock_file(directory, worker).open("w") as file:
        with contextlib.suppress(OSError):  # a file system without locks: signs of life must do
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
        _lock_file(directory, worker).unlink(missing_ok=True)  # not after an error: a lock that is free tells of it


@contextlib.contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Within it no other command writes into a directory that several machines share."""
    with (directory / ".lock").open("w") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_dead(directory: Path, worker: str) -> bool:
    """Whether a worker of this machine that locked a file in this directory has ended; False if that is not known.

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


def _lock_file(directory: Path, worker: str) -> Path:
    return directory / f"{worker}.lock"


class Watch:
    """Finds running trials of which nobody is in charge any more.

    A worker that has locked a file in the sweep's directory is dead when the lock is free. Any other, on a machine with
    a directory of its own, is lost when Optuna's heartbeat of its trial has ended for some time.

    Args:
        study: the study.
        locks: directory of the locks.
    """

    def __init__(self, study: SweepStudy, locks: Path) -> None:
        self.study = study
        self.locks = locks

    def fail_lost(self, running: Sequence[FrozenTrial]) -> None:
        """Fails the lost ones of these trials, so that they are retried."""
        optuna.storages.fail_stale_trials(self.study)
        for trial in running:
            worker = trial.user_attrs.get(WORKER)
            if worker is not None and is_dead(self.locks, worker):
                self._fail(trial, "its worker was killed")

    def _fail(self, trial: FrozenTrial, reason: str) -> None:
        """Fails a trial, unless somebody else has taken it in the meantime."""
        now = self.study.current(trial)
        if now.state == TrialState.RUNNING and now.user_attrs.get(WORKER) == trial.user_attrs.get(WORKER):
            self.study.fail(trial, reason, can_pass=True, from_outside=True)
