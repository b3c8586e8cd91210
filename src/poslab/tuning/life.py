"""Which trials are alive: workers hold a lock and give signs of life, and whoever sees neither calls a trial lost."""

from __future__ import annotations

import contextlib
import fcntl
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from poslab.tuning.attributes import ALIVE, WORKER
from poslab.tuning.heartbeat import give_sign_of_life
from poslab.tuning.ledger import SILENT
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
                give_sign_of_life(study.storage, trial._trial_id)
            except UpdateFinishedTrialError:  # somebody took it for lost; its next report tells the run
                return
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
    a directory of its own, is lost when it has given no sign of life for some time: by Optuna's heartbeat where the
    storage has it, else by what this process has seen change. No clocks of two machines are compared.

    Args:
        study: the study.
        locks: directory of the locks.
        lost_after: seconds.
        clock: gives seconds.
    """

    def __init__(
        self, study: SweepStudy, locks: Path, lost_after: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.study = study
        self.locks = locks
        self.lost_after = lost_after
        self.clock = clock
        self._seen: dict[int, tuple[object, float]] = {}

    def fail_lost(self, running: Sequence[FrozenTrial]) -> None:
        """Fails the lost ones of these trials, so that they are retried."""
        if isinstance(self.study.storage, RDBStorage):
            optuna.storages.fail_stale_trials(self.study)
        for trial in running:
            worker = trial.user_attrs.get(WORKER)
            if worker is not None and is_dead(self.locks, worker):
                self._fail(trial, "its worker was killed")
            elif self._is_silent(trial):
                self._fail(trial, f"{SILENT} for {self.lost_after:g} seconds")

    def _is_silent(self, trial: FrozenTrial) -> bool:
        worker = trial.user_attrs.get(WORKER)
        if isinstance(self.study.storage, RDBStorage) and worker is not None:
            return False  # it has a heartbeat
        sign, now = (worker, trial.user_attrs.get(ALIVE)), self.clock()
        seen, since = self._seen.get(trial.number, (None, now))
        if sign != seen:
            self._seen[trial.number] = (sign, now)
            return False
        return now - since > self.lost_after

    def _fail(self, trial: FrozenTrial, reason: str) -> None:
        """Fails a trial, unless somebody else has taken it in the meantime."""
        now = self.study.current(trial)
        if now.state == TrialState.RUNNING and now.user_attrs.get(WORKER) == trial.user_attrs.get(WORKER):
            self.study.fail(trial, reason, can_pass=True, from_outside=True)
