"""Worker processes of this machine: started, watched, replaced when they die, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from poslab.experiments.pool.deaths import MemoryWatch, is_from_outside
from poslab.experiments.pool.failure import Failure
from poslab.experiments.pool.hangs import HangDetector
from poslab.experiments.pool.locks import worker_name
from poslab.experiments.pool.shares import Share
from poslab.experiments.pool.source import J, Jobs, WatchedSource
from poslab.experiments.pool.worker import FULL_DISK, Assignment
from poslab.runs.errors import DiskError, ProcessDiedError

MAX_STARTUP_FAILURES = 3
"""Workers in a row that fail before they take a job, after which no further one is started."""

STOPPED = (128 + signal.SIGTERM, 128 + signal.SIGINT)
"""Exit statuses of a worker that was asked to stop."""


@dataclass(frozen=True)
class Worker:
    """A process that takes jobs, with a name that is unique among all machines, and a log of its output."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    hang: HangDetector


@dataclass(eq=False)
class Workers(Generic[J]):
    """All workers of a command on this machine.

    Args:
        source: of their jobs.
        module: run by each as `python -m MODULE`; calls `run_worker`.
        order: plain data from which the module opens the source.
        shares: of the machine, one for each worker.
        directory: of their logs and locks.
        hang_after: seconds without anything new in a job's directory after which its worker is killed.
    """

    source: WatchedSource[J]
    module: str
    order: Mapping[str, Any]
    shares: Sequence[Share]
    directory: Path
    hang_after: float

    def __post_init__(self) -> None:
        self._workers: list[Worker | None] = [None] * len(self.shares)
        self._startup_failures = 0
        self._memory = MemoryWatch()
        self._is_asked_to_stop = False

    @property
    def alive(self) -> list[Worker]:
        """Workers whose process is not known to have ended."""
        return [worker for worker in self._workers if worker is not None]

    def fill_up(self, most: int) -> None:
        """Start missing workers, up to `most` in all."""
        for place, worker in enumerate(self._workers):
            if worker is None and len(self.alive) < most:
                self._workers[place] = self._started(place)

    def look_after(self, jobs: Jobs[J]) -> None:
        """Kill the workers that hang, and fail the jobs of those that have died; `jobs` have just been read.

        Raises:
            DiskError: if one died because nothing can be written any more.
            ProcessDiedError: if one after another dies before it takes a job.
        """
        self._memory.look()
        for place, worker in enumerate(self._workers):
            if worker is None:
                continue
            if worker.process.poll() is None:
                self._end_if_hanging(worker, jobs)
            else:
                self._workers[place] = None
                self._record_death(worker)

    def ask_to_stop(self) -> None:
        """Send all workers one signal to stop after the present step; after a second one, a run would not save."""
        if not self._is_asked_to_stop:
            self._is_asked_to_stop = True
            for worker in self.alive:
                worker.process.terminate()

    def kill(self) -> None:
        """Kill all workers."""
        for worker in self.alive:
            worker.process.kill()
        for worker in self.alive:
            worker.process.wait()

    def _started(self, place: int) -> Worker:
        name = worker_name()
        log = self.directory / f"{name}.log"
        self.directory.mkdir(parents=True, exist_ok=True)
        threads, gpus = self.shares[place]
        share = {"OMP_NUM_THREADS": str(threads), **({} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus})}
        with log.open("x") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", self.module, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, **share},
                start_new_session=True,  # Ctrl-C reaches only the command, which passes it on
            )
        assignment = Assignment(name=name, threads=threads, locks=str(self.directory), order=dict(self.order))
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:  # it has died, which `look_after` handles
            json.dump(assignment, stdin)
        return Worker(name, process, log, HangDetector(self.hang_after))

    def _end_if_hanging(self, worker: Worker, jobs: Jobs[J]) -> None:
        taken = jobs.taken_by(worker.name)
        if taken and taken[-1].is_lost:  # it hangs, or trains a job that it has lost
            worker.process.kill()
            return
        running = next((job for job in taken if job.is_running), None)
        if worker.hang.hangs(None if running is None else running.directory):
            assert running is not None
            worker.process.kill()
            worker.process.wait()
            self.source.fail(running.job, Failure(f"nothing new for {self.hang_after:g} seconds", can_pass=True))

    def _record_death(self, worker: Worker) -> None:
        status = worker.process.returncode
        if status == FULL_DISK:
            raise DiskError(f"{self.directory.parent} cannot be written any more: see {worker.log}")
        taken = self.source.jobs().taken_by(worker.name)
        for job in taken:
            if job.is_running:
                self.source.fail(job.job, _failure_of(status, status == -signal.SIGKILL and self._memory.was_short))
        failed = not taken and status > 0 and status not in STOPPED  # a killed one might have taken a job
        self._startup_failures = self._startup_failures + 1 if failed else 0
        if self._startup_failures >= MAX_STARTUP_FAILURES:
            last = "".join(worker.log.read_text(errors="replace").splitlines(keepends=True)[-1:]).strip()
            raise ProcessDiedError(f"no worker gets as far as its first job: {last} (see {worker.log})")


def _failure_of(status: int, is_short_of_memory: bool) -> Failure:
    """Return the failure of a job whose worker ended with this status, which is negative for a signal."""
    if status >= 0:
        return Failure(f"its worker ended with status {status}", can_pass=True)
    reason = f"its worker was ended by {signal.Signals(-status).name}"
    return Failure(
        f"{reason} (out of memory)" if is_short_of_memory else reason,
        can_pass=True,
        from_outside=is_from_outside(-status) and not is_short_of_memory,
    )
