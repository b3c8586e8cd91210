"""A worker of jobs that do what their names say: `python -m tests.experiments.worker_of_names COMMAND`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from poslab.experiments.jobs import FolderLedger, Job, Jobs
from poslab.experiments.worker import Train, run_worker


class Named(Jobs[dict[str, str]]):
    """Jobs with these names in a folder."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        super().__init__(FolderLedger(folder, self.directory_of), lost_after=60)
        self.folder, self.names = folder, names

    def wanted(self, records: Any) -> tuple[list[str], int]:
        return self.names, 0

    def directory_of(self, key: str) -> Path:
        return self.folder / "runs" / "case" / "encoding" / key

    def as_plain_data(self, job: Job, result: dict[str, str]) -> dict[str, str]:
        return result


def open_jobs(order: dict[str, Any]) -> tuple[Jobs[Any], Train]:
    """Return the jobs, and a function that does what the name of a job says, at its first attempt."""
    jobs = Named(Path(order["folder"]), list(order["names"]))

    def train(job: Job, check_cancelled: Callable[[], None]) -> dict[str, str]:
        is_first = len(jobs.records()[job.key].attempts) == 1
        if job.key == "is_killed" and is_first:
            os.kill(os.getpid(), signal.SIGKILL)
        if job.key == "is_mistaken":
            raise ValueError("it cannot be")
        if job.key == "has_a_bug":
            raise ZeroDivisionError
        if job.key == "is_short_of_memory" and is_first:
            raise MemoryError
        return {"trained": job.key}

    return jobs, train


if __name__ == "__main__":
    run_worker(open_jobs)
