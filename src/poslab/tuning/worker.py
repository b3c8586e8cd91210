"""A process that takes trials, one after another: `python -m poslab.tuning.worker COMMAND`, the job on its input."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any, TypedDict

from poslab.training.worker import die_with

SECONDS_BETWEEN_LOOKS = 1.0
"""How long a worker that finds nothing to take waits before it looks again: somebody's trial may fail."""

FULL_DISK = 3
"""Exit status where nothing can be written any more: another worker would not fare better."""


class Job(TypedDict):
    """What a worker is told.

    Args:
        sweep: the arguments of a `Sweep`.
        conf: the folder of configurations.
        seed: of the sampler.
        default: the parameters of trial 0, by name.
        name: of this worker.
        threads: of torch.
    """

    sweep: dict[str, Any]
    conf: str
    seed: int
    default: dict[str, Any]
    name: str
    threads: int


class StopRequest:
    """A signal that asks the worker to stop; it is noticed between runs, and within one the run notices it itself."""

    def __init__(self) -> None:
        self._received: int | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: setattr(self, "_received", number))

    def heed(self) -> None:
        """Raises RunInterruptedError if a signal came."""
        from poslab.runs.errors import RunInterruptedError

        if self._received is not None:
            raise RunInterruptedError(self._received)


def main(job: Job) -> int:
    """Takes trials until the sweep is settled; the exit status."""
    request = StopRequest()

    from pathlib import Path

    import torch

    from poslab.io.terminal import one_line
    from poslab.runs.errors import DiskError, RunInterruptedError
    from poslab.tuning.life import kept_alive, locked
    from poslab.tuning.storage import beat_interval, open_storage
    from poslab.tuning.study import SweepStudy
    from poslab.tuning.sweep import Sweep
    from poslab.tuning.trial_configuration import TrialConfigurations
    from poslab.tuning.trial_run import run_trial

    torch.set_num_threads(job["threads"])
    sweep = Sweep(**job["sweep"])
    configurations = TrialConfigurations(Path(job["conf"]), sweep)
    try:
        with locked(Path(sweep.output) / "workers", job["name"]):
            study = SweepStudy(sweep, open_storage(sweep), job["seed"], job["default"])
            while not study.ledger().is_settled:
                request.heed()
                trial = study.take(job["name"])
                if trial is None:
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                    continue
                with kept_alive(study, trial, beat_interval(sweep)):
                    run_trial(study, trial, sweep, configurations, request.heed)
    except RunInterruptedError as stopped:
        return stopped.exit_status
    except DiskError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr, flush=True)
        return FULL_DISK
    return 0


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    status = main(json.load(sys.stdin))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)  # without waiting for the threads of libraries
