"""Worker processes of this machine: started, watched, replaced when they die, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from poslab.experiments.jobs import CRASHES, LOST, Failure, Job, Jobs, Snapshot, worker_name
from poslab.experiments.worker import FULL_DISK, Assignment
from poslab.runs.errors import DiskError, ProcessDiedError, RunInterruptedError
from poslab.runs.trainer_settings import TrainerSettings

MAX_STARTUP_FAILURES = 3  # workers in a row that fail before they take a job, after which no further one is started

STOPPED = (128 + signal.SIGTERM, 128 + signal.SIGINT)  # exit statuses of a worker that was asked to stop

POLL_INTERVAL_S = 1.0


class WorkerResources(NamedTuple):
    """Resources of one worker: threads of PyTorch, and CUDA_VISIBLE_DEVICES, which None does not change."""

    threads: int
    gpus: str | None


def worker_resources(workers: int, settings: TrainerSettings) -> list[WorkerResources]:
    """Return the resources of each of at least 1 worker; ValueError if there are not enough GPUs.

    They share the threads that PyTorch uses in this process: as many as cores, or fewer by `OMP_NUM_THREADS`.
    """
    threads = max(1, torch.get_num_threads() // workers)
    if not settings.on_gpu:
        return [WorkerResources(threads, None)] * workers
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    gpus = visible.split(",")
    needed = len(gpus) // workers if settings.devices == "auto" else settings.devices
    if needed == 0 or needed * workers > len(gpus):
        raise ValueError(f"workers={workers} need {max(1, needed)} GPUs each, and this machine has {len(gpus)}")
    return [WorkerResources(threads, ",".join(gpus[i * needed : (i + 1) * needed])) for i in range(workers)]


@dataclass(frozen=True)
class Worker:
    """A process that takes jobs, with a name that is unique among all machines, and a log of its output."""

    name: str
    process: subprocess.Popen[str]
    log: Path


@dataclass(eq=False)
class Workers:
    """All workers of a command on this machine, with the directory of their logs and locks.

    Each runs `python -m MODULE`, and opens the jobs from `order`, plain data.
    """

    jobs: Jobs[Any]
    order: Mapping[str, Any]
    resources: Sequence[WorkerResources]
    directory: Path
    module: str = "poslab.experiments.worker"
    alive: dict[int, Worker] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._startup_failures = 0
        self._is_asked_to_stop = False

    def fill_up(self, most: int) -> None:
        """Start missing workers, up to `most` in all."""
        for index in range(len(self.resources)):
            if index not in self.alive and len(self.alive) < most:
                self.alive[index] = self._started(self.resources[index])

    def look_after(self, snapshot: Snapshot) -> None:
        """Kill the workers whose job was lost, and fail the jobs of those that have died.

        DiskError is raised if nothing can be written any more, ProcessDiedError if none gets as far as a job.
        """
        for index, worker in list(self.alive.items()):
            if worker.process.poll() is not None:
                del self.alive[index]
                self._record_death(worker)
                continue
            for record in snapshot.taken.values():  # it sends no heartbeats, or trains a job that it has lost
                attempts = [attempt for attempt in record.attempts if attempt.worker == worker.name]
                if attempts and attempts[-1].failure == LOST:
                    worker.process.kill()

    def ask_to_stop(self) -> None:
        """Send all workers one signal to stop after the present step; after a second one, a run would not save."""
        if not self._is_asked_to_stop:
            self._is_asked_to_stop = True
            for worker in self.alive.values():
                worker.process.terminate()

    def kill(self) -> None:
        for worker in self.alive.values():
            worker.process.kill()
        for worker in self.alive.values():
            worker.process.wait()

    def _started(self, resources: WorkerResources) -> Worker:
        name = worker_name()
        log = self.directory / f"{name}.log"
        self.directory.mkdir(parents=True, exist_ok=True)
        threads, gpus = resources
        variables = {"OMP_NUM_THREADS": str(threads), **({} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus})}
        with log.open("x") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", self.module, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, **variables},
                start_new_session=True,  # Ctrl-C reaches only the command, which passes it on
            )
        assignment = Assignment(name=name, threads=threads, locks=str(self.directory), order=dict(self.order))
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:  # it has died, which `look_after` handles
            json.dump(assignment, stdin)
        return Worker(name, process, log)

    def _record_death(self, worker: Worker) -> None:
        status = worker.process.returncode
        if status == FULL_DISK:
            raise DiskError(f"{self.directory.parent} cannot be written any more: see {worker.log}")
        failure = Failure(f"its worker ended with status {status}", can_pass=True)
        if status < 0:
            reason = f"its worker was ended by {signal.Signals(-status).name}"
            failure = Failure(reason, can_pass=True, from_outside=-status not in CRASHES)
        records = self.jobs.records()
        taken = [k for k, record in records.items() if any(a.worker == worker.name for a in record.attempts)]
        for key in taken:  # `fail` does not change jobs that have ended
            self.jobs.fail(Job(key, worker.name, self.jobs.directory_of(key)), failure)
        failed = not taken and status > 0 and status not in STOPPED  # a killed one might have taken a job
        self._startup_failures = self._startup_failures + 1 if failed else 0
        if self._startup_failures >= MAX_STARTUP_FAILURES:
            last = "".join(worker.log.read_text(errors="replace").splitlines(keepends=True)[-1:]).strip()
            raise ProcessDiedError(f"no worker gets as far as its first job: {last} (see {worker.log})")


def supervise(jobs: Jobs[Any], workers: Workers, show: Callable[[Snapshot], None]) -> None:
    """Keep the workers of this machine running until all jobs have ended; `show` shows them.

    Raises:
        RunInterruptedError: after a signal: the first one asks the workers to stop after a step, a second one ends them
            at once.
        DiskError, ProcessDiedError: as `Workers.look_after`.
        Exception: of the records, if they have been out of reach for `lost_after` seconds.
    """
    reached = time.monotonic()
    with _asked_to_stop() as asked:
        try:
            while True:
                try:
                    snapshot = jobs.snapshot()
                    reached = time.monotonic()
                    show(snapshot)
                    workers.look_after(snapshot)
                    jobs.fail_lost(workers.directory)
                except jobs.outages:
                    if time.monotonic() - reached > jobs.lost_after:
                        raise
                    time.sleep(POLL_INTERVAL_S)
                    continue
                if asked:
                    workers.ask_to_stop()
                else:
                    workers.fill_up(most=snapshot.unfinished)
                if len(asked) > 1 or not workers.alive:
                    break
                time.sleep(POLL_INTERVAL_S)
            show(jobs.snapshot())
        finally:
            workers.kill()
    if asked:
        raise RunInterruptedError(asked[0])


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Collect signals in a list, instead of their usual effect."""
    asked: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, _: asked.append(number)) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
