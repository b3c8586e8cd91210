"""A process of a run that `launch` has started.

`python -m poslab.training.worker LAUNCHER MESSAGES TRUST DIRECTORY [CHECKPOINT]`
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys


def main(messages: str, trust: str, run_directory: str, checkpoint: str | None = None) -> None:
    """Train this process's share of a run; slow imports wait until it ends with its launcher."""
    from pathlib import Path

    import torch

    from poslab.runs.directory import RunDirectory
    from poslab.runs.processes import disk_errors, external_environment, hang_errors, join
    from poslab.runs.recipe import recipe_of
    from poslab.training.checkpoints import StopOnSignals
    from poslab.training.fit import train_here
    from poslab.training.launch import Heartbeats, distant_observer

    run = RunDirectory.of(run_directory, trust.split(",") if trust else ())
    recipe = recipe_of(run)
    settings = recipe.trainer
    environment = external_environment()
    assert environment is not None
    gc.enable()
    torch.set_num_threads(max(1, torch.get_num_threads() // settings.local_processes))
    with StopOnSignals(second_sigterm_ends=False) as signals, disk_errors(run.path), hang_errors(settings.hang_after):
        join(environment, settings.on_gpu, settings.hang_after, on_one_machine=True, directory=Path(messages))
        observer = distant_observer(Path(messages))
        heartbeats = Heartbeats(Path(messages), environment.global_rank())
        train_here(run, recipe, Path(checkpoint) if checkpoint else None, signals, observer, [heartbeats])


def die_with(launcher: int) -> None:
    """Let this process end when its launcher is killed (on Linux), so that no run continues unseen."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != launcher:  # the launcher was killed before
        sys.exit(1)


if __name__ == "__main__":
    gc.disable()  # imports make a million objects and hardly any garbage: to look for it takes a fifth of their time
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from a process that has not begun
    die_with(int(sys.argv[1]))

    from torch.distributed.elastic.multiprocessing.errors import record

    from poslab.runs.errors import RunInterruptedError
    from poslab.runs.processes import leave

    try:
        record(main)(*sys.argv[2:])
    except RunInterruptedError as interrupted:
        leave(interrupted.exit_status)
    except Exception:
        leave(1)  # `record` has written the error for the launcher, which reports it
    leave(0)
