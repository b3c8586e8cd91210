"""A source of jobs in a directory: `python -m tests.experiments.pool.directory_source COMMAND`."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from poslab.experiments.pool.failure import Failure
from poslab.experiments.pool.retries import FailedAttempt, may_retry
from poslab.experiments.pool.source import Jobs, TakenJob
from poslab.experiments.pool.worker import run_worker


class DirectorySource:
    """Jobs by name in a JSON file that one process changes at a time.

    Args:
        directory: where the file is.
        names: of the jobs, for whoever opens it first.
    """

    outages: tuple[type[Exception], ...] = ()
    heartbeat_interval = 1.0

    def __init__(self, directory: Path, names: list[str]) -> None:
        self.directory = directory
        with self.changing() as jobs:
            for name in names:
                jobs.setdefault(name, {"state": "waiting", "worker": None, "failures": [], "result": None})

    @contextlib.contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """Read the jobs, and write them back changed."""
        with (self.directory / "jobs.json").open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            jobs = json.loads(file.read() or "{}")
            yield jobs
            file.truncate(0)
            file.write(json.dumps(jobs))
            file.flush()

    def jobs(self) -> Jobs[str]:
        with self.changing() as jobs:
            taken = [
                TakenJob(name, job["worker"], self.directory / name, job["state"] == "running", is_lost=False)
                for name, job in jobs.items()
                if job["worker"] is not None
            ]
            return Jobs(sum(job["state"] in ("waiting", "running") for job in jobs.values()), taken)

    def is_settled(self) -> bool:
        return self.jobs().unfinished == 0

    def take(self, worker: str) -> str | None:
        with self.changing() as jobs:
            for name, job in jobs.items():
                if job["state"] == "waiting":
                    job |= {"state": "running", "worker": worker}
                    return name
        return None

    def heartbeat(self, job: str) -> None:
        """Do nothing: locks must do."""

    def fail_silent(self) -> None:
        """Do nothing: locks must do."""

    def complete(self, job: str, result: str) -> None:
        with self.changing() as jobs:
            jobs[job] |= {"state": "complete", "result": result}

    def fail(self, job: str, failure: Failure) -> None:
        with self.changing() as jobs:
            if jobs[job]["state"] == "running":
                jobs[job]["failures"].append(asdict(failure))
                attempts = [FailedAttempt(Failure(**failure)) for failure in jobs[job]["failures"]]
                jobs[job]["state"] = "waiting" if may_retry(attempts) else "failed"

    def put_back(self, job: str) -> None:
        with self.changing() as jobs:
            jobs[job] |= {"state": "waiting", "worker": None}


def train(source: DirectorySource, job: str, check_cancelled: Callable[[], None]) -> str:
    """Do what the name of a job says, at its first attempt."""
    with source.changing() as jobs:
        is_first = not jobs[job]["failures"]
    if job == "is_killed" and is_first:
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "is_mistaken":
        raise ValueError("it cannot be")
    if job == "has_a_bug":
        raise ZeroDivisionError
    if job == "is_short_of_memory" and is_first:
        raise MemoryError
    return f"{job} was trained"


def open_source(order: dict[str, Any]) -> tuple[DirectorySource, Callable[[str, Callable[[], None]], str]]:
    source = DirectorySource(Path(order["directory"]), [])
    return source, lambda job, check_cancelled: train(source, job, check_cancelled)


if __name__ == "__main__":
    run_worker(open_source)
