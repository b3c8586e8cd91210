"""One process of a run that `launch` started: `python -m poslab.training.worker RUN_DIRECTORY [CHECKPOINT]`."""

from __future__ import annotations

import ctypes
import signal
import sys
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing.errors import record

from poslab.configuration import build
from poslab.errors import Interrupted
from poslab.run_directory import RunDirectory
from poslab.training.interruption import StopOnSignals
from poslab.training.launch import external_environment, join
from poslab.training.settings import TrainerSettings
from poslab.training.train import train_here


def main(run_directory: str, checkpoint: str | None = None) -> None:
    """Trains this process's share of a run."""
    run = RunDirectory.of(run_directory)
    config = run.config()
    settings: TrainerSettings = build(config, "trainer")
    environment = external_environment()
    assert environment is not None
    torch.set_num_threads(max(1, torch.get_num_threads() // settings.local_processes))
    with StopOnSignals() as signals:
        join(environment, settings.on_gpu)
        train_here(run, config, Path(checkpoint) if checkpoint else None, signals)


def die_with_parent() -> None:
    """On Linux, ends this process when the one that launched it is killed, so that no run goes on unseen."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent()
    try:
        record(main)(*sys.argv[1:])
    except Interrupted as interrupted:
        sys.exit(interrupted.exit_status)
    except Exception:
        sys.exit(1)  # recorded for the process that launched this one, which tells it
