"""The worker processes of a sweep on this machine: started, watched, replaced when they die, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from optuna.trial import FrozenTrial

from poslab.runs.errors import DiskError, ProcessDiedError
from poslab.runs.trainer_settings import TrainerSettings
from poslab.tuning.attributes import WORKER
from poslab.tuning.ledger import Ledger, first_attempt, is_lost
from poslab.tuning.life import worker_name
from poslab.tuning.outside import MemoryWatch, ended_from_outside
from poslab.tuning.study import SweepStudy
from poslab.tuning.sweep import Sweep
from poslab.tuning.trial_run import directory_of
from poslab.tuning.worker import FULL_DISK, Job

MOST_DEATHS_IN_VAIN = 3
"""Workers in a row that fail before they have taken a trial; the sweep then ends."""

STOPPED = (0, 128 + signal.SIGTERM, 128 + signal.SIGINT)
"""Exit statuses of a worker that ended in order."""


@dataclass
class Worker:
    """A process, and what it was seen to do.

    Args:
        name: unique among all machines.
        process: the process.
        log: what it prints.
        newest: when the newest file of its trial was written, by the clock of the file system.
        since: since when that is the newest, by `time.monotonic`.
    """

    name: str
    process: subprocess.Popen[str]
    log: Path
    newest: float = 0.0
    since: float = field(default_factory=time.monotonic)


class Workers:
    """All workers of this machine.

    Args:
        sweep: the sweep.
        study: its study.
        conf: the folder of configurations.
        default: the parameters of trial 0, by name.
        seed: of the sampler.
        settings: how trials are trained.

    Raises:
        ValueError: if the machine has too few GPUs for them.
    """

    def __init__(
        self,
        sweep: Sweep,
        study: SweepStudy,
        conf: Path,
        default: Mapping[str, Any],
        seed: int,
        settings: TrainerSettings,
    ) -> None:
        self._sweep = sweep
        self._study = study
        self._job = {"sweep": sweep.as_plain_data(), "conf": str(conf), "default": dict(default), "seed": seed}
        self._shares = shares(sweep.workers, settings)
        self._workers: list[Worker | None] = [None] * sweep.workers
        self._deaths_in_vain = 0
        self._memory = MemoryWatch()
        self._is_asked_to_stop = False

    @property
    def alive(self) -> list[Worker]:
        """Those whose process has not ended, or has not been seen to have."""
        return [worker for worker in self._workers if worker is not None]

    def fill_up(self, most: int) -> None:
        """Starts what is missing.

        Args:
            most: that can be of use: as many as there are unfinished trials.
        """
        for place, worker in enumerate(self._workers):
            if worker is None and len(self.alive) < most:
                self._workers[place] = self._started(place)

    def look_after(self, ledger: Ledger) -> None:
        """Ends who hangs, and fails the trials of who has died.

        Args:
            ledger: the account of the study, read before this.

        Raises:
            DiskError: if one died because nothing can be written any more.
            ProcessDiedError: if one after another dies before it takes a trial.
        """
        self._memory.look()
        for place, worker in enumerate(self._workers):
            if worker is None:
                continue
            if worker.process.poll() is None:
                self._end_if_hanging(worker, ledger)
            else:
                self._workers[place] = None
                self._bury(worker)

    def ask_to_stop(self) -> None:
        """Asks all to stop after the present step, once: processes of a trial that are asked again do not save."""
        if not self._is_asked_to_stop:
            self._is_asked_to_stop = True
            for worker in self.alive:
                worker.process.terminate()

    def kill(self) -> None:
        """Ends all at once."""
        for worker in self.alive:
            worker.process.kill()
        for worker in self.alive:
            worker.process.wait()

    def _started(self, place: int) -> Worker:
        name = worker_name()
        log = Path(self._sweep.output) / "workers" / f"worker_{place}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        threads, gpus = self._shares[place]
        with log.open("a") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "poslab.tuning.worker", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": str(threads),
                    **({} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}),
                },
                start_new_session=True,  # Ctrl-C is for the command, which passes it on
            )
        assert process.stdin is not None
        job: Job = {**self._job, "name": name, "threads": threads}  # type: ignore[typeddict-item]
        try:
            with process.stdin as stdin:
                json.dump(job, stdin)
        except BrokenPipeError:  # it has died already, as `look_after` will see
            pass
        return Worker(name, process, log)

    def _trials_of(self, worker: Worker) -> list[FrozenTrial]:
        return [t for t in self._study.get_trials(deepcopy=False) if t.user_attrs.get(WORKER) == worker.name]

    def _end_if_hanging(self, worker: Worker, ledger: Ledger) -> None:
        taken = self._trials_of(worker)
        if taken and is_lost(max(taken, key=lambda trial: trial.number)):  # it is silent, or its trial is not its own
            worker.process.kill()
            return
        trial = next((trial for trial in ledger.running if trial.user_attrs.get(WORKER) == worker.name), None)
        newest = 0.0 if trial is None else _newest(directory_of(self._sweep, first_attempt(trial)))
        if trial is None or newest != worker.newest:
            worker.newest, worker.since = newest, time.monotonic()
        elif time.monotonic() - worker.since > self._sweep.hang_after:
            worker.process.kill()
            worker.process.wait()
            self._study.fail(trial, f"nothing new for {self._sweep.hang_after} seconds", can_pass=True)

    def _bury(self, worker: Worker) -> None:
        status = worker.process.returncode
        if status == FULL_DISK:
            raise DiskError(f"{self._sweep.output} cannot be written any more: see {worker.log}")
        taken = self._trials_of(worker)
        for trial in taken:
            if not trial.state.is_finished():
                is_short = status == -signal.SIGKILL and self._memory.was_short
                from_outside = status < 0 and ended_from_outside(-status) and not is_short
                self._study.fail(trial, _cause(status, is_short), can_pass=True, from_outside=from_outside)
        failed = not taken and status > 0 and status not in STOPPED  # who was killed may have been about to take one
        self._deaths_in_vain = self._deaths_in_vain + 1 if failed else 0
        if self._deaths_in_vain >= MOST_DEATHS_IN_VAIN:
            last = "".join(worker.log.read_text(errors="replace").splitlines(keepends=True)[-1:]).strip()
            raise ProcessDiedError(f"no worker comes so far as to take a trial: {last} (see {worker.log})")


def shares(workers: int, settings: TrainerSettings) -> list[tuple[int, str | None]]:
    """What each worker has of the machine: threads, and the GPUs that it sees (None: as the command does).

    Threads are shares of those that PyTorch uses in the command: as many as cores, or fewer by `OMP_NUM_THREADS`.

    Args:
        workers: how many.
        settings: how trials are trained.

    Raises:
        ValueError: if there are not enough GPUs.
    """
    threads = max(1, torch.get_num_threads() // workers)
    if not settings.on_gpu:
        return [(threads, None)] * workers
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    gpus = visible.split(",")
    needed = len(gpus) // workers if settings.devices == "auto" else settings.devices
    if needed == 0 or needed * workers > len(gpus):
        raise ValueError(f"workers={workers} need {max(1, needed)} GPUs each, and this machine has {len(gpus)}")
    return [(threads, ",".join(gpus[i * needed : (i + 1) * needed])) for i in range(workers)]


def _newest(directory: Path) -> float:
    """When the newest file below a directory was written; 0 if there is none."""
    times = []
    for path in directory.rglob("*"):
        try:
            times.append(path.stat().st_mtime)
        except FileNotFoundError:  # it was replaced in the meantime
            continue
    return max(times, default=0.0)


def _cause(status: int, is_short_of_memory: bool) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        return f"its worker was ended by {name}" + (" (out of memory)" if is_short_of_memory else "")
    return f"its worker ended with status {status}"
