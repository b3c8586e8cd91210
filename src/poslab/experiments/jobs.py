"""Jobs: run directories that any number of workers and machines take, train, retry and finish.

A job is a key and a directory; its record says who has tried it, and how that ended. Records are files in the run
directories, or, for machines that share only a database, rows of a table. Each change is a transaction, so that a
process may be killed at any moment.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import platform
import signal
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from filelock import FileLock
from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, Text, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from poslab.experiments.storage_url import DamagedStorageError
from poslab.io.files import lock, lock_at_once, read_json, write_atomically
from poslab.runs.directory import JOB_FILE
from poslab.runs.errors import ProcessDiedError, RunStoppedError

MAX_RETRIES = 2  # retries after failures of the job itself
MAX_KILLS = 100  # retries after kills from outside: a kill for the memory of the job can look the same
BEATS = 6  # heartbeats of a job within `lost_after`
LOCK_TIMEOUT_S = 60  # longest time that a process waits for another one that changes records
STUDY = "study"  # key of the record of a whole sweep or comparison

CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}
"""Signals that a process gets for its own faults; others are sent by another process or by the kernel."""

OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "DataLoader worker")
"""Words of a RuntimeError by which torch reports that memory is short."""

R = TypeVar("R")  # the result of a job


class JobLostError(Exception):
    """The job in training no longer belongs to this worker: another process failed it, since no heartbeat came."""


@dataclass(frozen=True)
class Failure:
    """The end of a failed attempt: the reason in a few words, and whether another attempt may succeed (`can_pass`).

    `from_outside` is true if someone else ended the worker, so that the job itself is not to blame.
    """

    reason: str
    can_pass: bool
    from_outside: bool = False


LOST = Failure("the heartbeat of its worker stopped", can_pass=True, from_outside=True)
KILLED = Failure("its worker was killed", can_pass=True, from_outside=True)


def failure_of(error: Exception, outages: tuple[type[Exception], ...] = ()) -> Failure:
    """Return the failure for an error of a run; outages are errors of a storage that cannot be reached for a while."""
    ended_by = error.ended_by if isinstance(error, ProcessDiedError) else None
    if isinstance(error, RunStoppedError):
        can_pass = error.resumable
    elif isinstance(error, (MemoryError, torch.OutOfMemoryError, OSError, *outages)):
        can_pass = True
    else:
        can_pass = isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
    return Failure(
        str(error) if isinstance(error, RunStoppedError | ValueError) else f"{type(error).__name__}: {error}",
        can_pass=can_pass,
        from_outside=ended_by is not None and ended_by not in CRASHES,
    )


@dataclass
class Attempt:
    """An attempt at a job by a worker."""

    worker: str
    began: float = 0.0
    failure: Failure | None = None


@dataclass
class Record:
    """The attempts at a job, its heartbeats so far, and its outcome."""

    attempts: list[Attempt] = field(default_factory=list)
    beats: int = 0
    outcome: Mapping[str, Any] | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, node: Any) -> Record:
        """Return the record of plain data; raise DamagedStorageError for any that `as_plain_data` does not make."""
        try:
            attempts = [Attempt(**{**a, "failure": a["failure"] and Failure(**a["failure"])}) for a in node["attempts"]]
            record = cls(**{**node, "attempts": attempts})
            texts = [a.worker for a in attempts] + [a.failure.reason for a in attempts if a.failure]
            if not all(isinstance(text, str) for text in texts) or type(record.beats) is not int:
                raise ValueError
            if not isinstance(record.outcome, dict | None) or not isinstance(record.seconds, int | float | None):
                raise ValueError
            return record
        except (TypeError, KeyError, ValueError) as error:
            raise DamagedStorageError(f"is damaged: it contains something else than a job: {str(node)[:80]}") from error

    @property
    def running(self) -> Attempt | None:
        """The attempt that has not ended."""
        last = self.attempts[-1] if self.attempts and self.outcome is None else None
        return last if last is not None and last.failure is None else None

    @property
    def failure(self) -> Failure | None:
        """The failure of the last attempt."""
        return self.attempts[-1].failure if self.attempts and self.outcome is None else None


def may_retry(attempts: Sequence[Attempt]) -> bool:
    """Return whether a job gets another attempt, after its attempts in order, of which the last has failed."""
    failures = [attempt.failure for attempt in attempts if attempt.failure is not None]
    kills = sum(failure.from_outside for failure in failures)
    return failures[-1].can_pass and len(failures) - kills <= MAX_RETRIES and kills <= MAX_KILLS


class Ledger(Protocol):
    """Records as plain data, by key."""

    outages: tuple[type[Exception], ...]

    def read(self) -> dict[str, Any]:
        """Return all records at this moment."""

    def changing(self) -> AbstractContextManager[dict[str, Any]]:
        """Yield all records, of which no other process changes any meanwhile, and keep the changes."""


class FolderLedger:
    """Records in the run directories below a folder, and in `study.json` of the folder itself."""

    outages: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, folder: Path, directory_of: Callable[[str], Path]) -> None:
        self._folder = folder
        self._directory_of = directory_of

    def read(self) -> dict[str, Any]:
        records: dict[str, Any] = {}
        for file in [*self._folder.glob(f"{STUDY}.json"), *self._folder.glob(f"*/*/*/*/{JOB_FILE}")]:
            try:
                records |= read_json(file)
            except ValueError as error:
                if file.exists():  # else its run was removed at this moment
                    raise DamagedStorageError(str(error)) from error
        return records

    @contextlib.contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        with FileLock(self._folder / ".jobs.lock", timeout=LOCK_TIMEOUT_S):
            records = self.read()
            before = {key: json.dumps(record) for key, record in records.items()}
            yield records
            changed = [key for key, record in records.items() if json.dumps(record) != before.get(key)]
            for path in {self._file(key) for key in changed}:
                path.parent.mkdir(parents=True, exist_ok=True)
                kept = {key: record for key, record in records.items() if self._file(key) == path}
                write_atomically(path, json.dumps(kept, indent=1) + "\n")

    def _file(self, key: str) -> Path:
        return self._folder / f"{STUDY}.json" if key == STUDY else self._directory_of(key) / JOB_FILE


TABLES = MetaData()
STUDIES = Table("poslab_studies", TABLES, Column("study", String(255), primary_key=True))
JOBS = Table(
    "poslab_jobs",
    TABLES,
    Column("study", String(255), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("record", Text, nullable=False),
)


class DatabaseLedger:
    """Records of the study of a name in a database."""

    outages: tuple[type[Exception], ...] = (SQLAlchemyError,)

    def __init__(self, engine: Engine, study: str) -> None:
        self._engine = engine
        self._study = study
        TABLES.create_all(engine)
        with contextlib.suppress(IntegrityError), engine.begin() as connection:
            connection.execute(STUDIES.insert().values(study=study))

    def read(self) -> dict[str, Any]:
        with self._engine.begin() as connection:
            return self._records(connection)

    @contextlib.contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        with self._engine.begin() as connection:
            connection.execute(select(STUDIES).where(STUDIES.c.study == self._study).with_for_update())
            records = self._records(connection)
            before = {key: json.dumps(record) for key, record in records.items()}
            yield records
            for key, record in records.items():
                if (text := json.dumps(record)) != before.get(key):
                    digest = hashlib.sha256(key.encode()).hexdigest()
                    row = {"study": self._study, "digest": digest}
                    connection.execute(JOBS.delete().where(JOBS.c.study == self._study, JOBS.c.digest == digest))
                    connection.execute(JOBS.insert().values(**row, name=key, record=text))

    def _records(self, connection: Connection) -> dict[str, Any]:
        rows = connection.execute(select(JOBS.c.name, JOBS.c.record).where(JOBS.c.study == self._study))
        try:
            return {name: json.loads(record) for name, record in rows}
        except (TypeError, ValueError, RecursionError) as error:
            raise DamagedStorageError("is damaged: it contains a job that is not JSON") from error


@dataclass(frozen=True, eq=False)
class Job:
    """A job that a worker has taken; `lost` is set once another process has failed it."""

    key: str
    worker: str
    directory: Path
    lost: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Snapshot:
    """The wanted jobs that are known at one moment, in order, with their records; others are only a number (`unknown`).

    `finished` are the keys of those that have an outcome or have failed for good, and `taken` all records.
    """

    records: Mapping[str, Record]
    unknown: int
    finished: Sequence[str]
    taken: Mapping[str, Record]

    @property
    def failed(self) -> list[str]:
        """Jobs that failed and are not retried."""
        return [key for key in self.finished if self.records[key].outcome is None]

    @property
    def running(self) -> list[str]:
        """Jobs that a worker trains."""
        return [key for key, record in self.records.items() if record.running is not None]

    @property
    def waiting(self) -> list[str]:
        """Jobs that were stopped or failed, and resume where they were."""
        others = {*self.finished, *self.running}
        return [key for key in self.records if key in self.taken and key not in others]

    @property
    def unfinished(self) -> int:
        """Number of wanted jobs that have not ended."""
        return len(self.records) + self.unknown - len(self.finished)


class Jobs(ABC, Generic[R]):
    """The jobs of a sweep or a comparison. No process keeps count: which are wanted follows from the records."""

    def __init__(self, ledger: Ledger, lost_after: float) -> None:
        self.ledger = ledger
        self.lost_after = lost_after
        self._heard: dict[str, tuple[tuple[str, int], float]] = {}

    @abstractmethod
    def wanted(self, records: Mapping[str, Record]) -> tuple[list[str], int]:
        """Return the wanted jobs in order, and the number of those that are not known yet."""

    @abstractmethod
    def directory_of(self, key: str) -> Path:
        """Return the directory in which a job is trained."""

    @abstractmethod
    def as_plain_data(self, job: Job, result: R) -> Mapping[str, Any]:
        """Return the outcome of a job for its record."""

    @property
    def outages(self) -> tuple[type[Exception], ...]:
        """Errors of records that cannot be reached, perhaps for a moment."""
        return self.ledger.outages

    def is_finished(self, key: str, record: Record) -> bool:
        """Return whether a job has an outcome, or failed and is not retried."""
        return record.outcome is not None or (record.failure is not None and not may_retry(record.attempts))

    def records(self) -> dict[str, Record]:
        """Return the records of all jobs that were ever taken."""
        return {key: Record.of(node) for key, node in self.ledger.read().items() if key != STUDY}

    def snapshot(self) -> Snapshot:
        """Return the present state of all jobs."""
        taken = self.records()
        keys, unknown = self.wanted(taken)
        records = {key: taken.get(key) or Record() for key in keys}
        return Snapshot(records, unknown, [k for k, record in records.items() if self.is_finished(k, record)], taken)

    def take(self, worker: str) -> Job | None:
        """Take a job that nobody else has, in the name of a worker; return None if there is none at this moment."""
        with self._changing() as records:
            for key in self.wanted(records)[0]:
                record = records.setdefault(key, Record())
                if record.running is None and not self.is_finished(key, record):
                    record.attempts.append(Attempt(worker, began=time.time()))
                    return Job(key, worker, self.directory_of(key))
                if not record.attempts:
                    del records[key]
        return None

    def beat(self, job: Job) -> None:
        """Record a heartbeat; set `lost` of a job that another process has failed."""
        with self._own(job) as record:
            if record is None:
                job.lost.set()
            else:
                record.beats += 1

    def complete(self, job: Job, result: R) -> None:
        """End a job with its result, unless another process has failed it."""
        outcome = self.as_plain_data(job, result)
        with self._own(job) as record:
            if record is not None:
                record.outcome = dict(outcome)
                record.seconds = round(time.time() - record.attempts[-1].began, 1)

    def fail(self, job: Job, failure: Failure) -> None:
        """End an attempt that failed, unless another worker has taken the job since."""
        with self._own(job) as record:
            if record is not None:
                record.attempts[-1].failure = failure

    def put_back(self, job: Job) -> bool:
        """Give back a job that was stopped; return whether it still belonged to its worker."""
        with self._own(job) as record:
            if record is not None:
                record.attempts.pop()
        return record is not None

    def fail_lost(self, locks: Path) -> None:
        """Fail the jobs of dead workers, so that they are retried.

        Dead workers of this machine have left a free lock in a folder; others have been silent for `lost_after`
        seconds, by the clock of this process.
        """
        for key, record in self.records().items():
            if (attempt := record.running) is None:
                continue
            job, heard = Job(key, attempt.worker, self.directory_of(key)), (attempt.worker, record.beats)
            last, since = self._heard.get(key, (None, 0.0))
            if is_dead(locks, attempt.worker):
                self.fail(job, KILLED)
            elif heard != last:
                self._heard[key] = (heard, time.monotonic())
            elif time.monotonic() - since > self.lost_after:
                self.fail(job, LOST)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Record]]:
        with self.ledger.changing() as nodes:
            records = {key: Record.of(node) for key, node in nodes.items() if key != STUDY}
            yield records
            nodes |= {key: asdict(record) for key, record in records.items()}

    @contextlib.contextmanager
    def _own(self, job: Job) -> Iterator[Record | None]:
        """Yield the record of a job to change; None if the job no longer belongs to its worker."""
        with self._changing() as records:
            record = records.get(job.key)
            is_own = record is not None and record.running is not None and record.running.worker == job.worker
            yield record if is_own else None


def worker_name() -> str:
    """Return a unique name for a worker of this machine."""
    return f"{platform.node()}-{uuid.uuid4().hex[:8]}"


@contextlib.contextmanager
def locked(directory: Path, worker: str) -> Iterator[None]:
    """Hold a lock for a worker, which ends with this process in any case, and so proves which workers are dead."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{worker}.lock"
    with path.open("w") as file:
        lock(file)  # without locks in the file system, heartbeats must suffice
        yield
        path.unlink(missing_ok=True)  # but not after an error: a free lock is evidence


def is_dead(directory: Path, worker: str) -> bool:
    """Return whether a worker of this machine that locked a file in a directory has ended; False if unknown.

    A lock of another machine may look free here: not all file systems share locks.
    """
    if not worker.startswith(f"{platform.node()}-"):
        return False
    try:
        with (directory / f"{worker}.lock").open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError:  # it is locked, or there is no such file or lock
        return False


@contextlib.contextmanager
def one_at_a_time(directory: Path, wait: bool = True) -> Iterator[None]:
    """Prevent other commands from writing into a directory that several machines share.

    Where another one writes: wait for it, or raise ValueError.
    """
    with (directory / ".lock").open("w") as file:
        if wait:
            lock(file)
        elif not lock_at_once(file):
            raise ValueError(f"output={directory} is being written by another process at this moment")
        yield
