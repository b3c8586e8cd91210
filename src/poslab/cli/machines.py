"""The same sweep or comparison on several machines of a cluster, as jobs of one of Hydra's launchers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig

from poslab.cli.mistakes import composition_mistake
from poslab.configuration.command_line import STARTED_AS, started_as
from poslab.runs.errors import RunStoppedError

OF_HYDRA = ("hydra/launcher=", "hydra.launcher.")
"""Beginnings of the words that choose a launcher and set it up."""
NOT_STARTED = {"RuntimeError", "FailedSubmissionError"}
"""Names of the errors by which submitit, which need not be installed, says that it could start no job."""


def launcher_and_others(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words that are a launcher's, and all others."""
    return [w for w in words if w.startswith(OF_HYDRA)], [w for w in words if not w.startswith(OF_HYDRA)]


def run_on_machines(
    command: str, arguments: Sequence[str], launcher: Sequence[str], machines: object, storage: str | None
) -> None:
    """Run a command as several jobs of a launcher, and wait until all have ended.

    Args:
        command: `sweep` or `compare`.
        arguments: all of its words.
        launcher: those of its launcher, such as `hydra/launcher=submitit_slurm` and `hydra.launcher.gpus_per_node=1`.
        machines: number of jobs, each of which is the command without these words.
        storage: the URL of the database that the jobs share.

    Raises:
        ValueError: without a launcher, a number of jobs, or a database on a server.
        RunStoppedError: if a job has failed.
    """
    if not launcher or type(machines) is not int or machines < 1:
        raise ValueError("machines=8 is how many jobs a launcher of Hydra starts, as in hydra/launcher=submitit_slurm")
    if storage is None or storage.startswith("sqlite"):
        raise ValueError("machines share a database on a server, as in storage=postgresql://USER@HOST/NAME")
    _, others = launcher_and_others(arguments)
    words = [word for word in others if not word.startswith("machines=")]

    environment = {STARTED_AS: started_as()}  # a launcher's process may have another one than this

    def job(_: DictConfig) -> None:
        command_line = [sys.executable, "-m", "poslab", command, *words]
        subprocess.run(command_line, check=True, env={**os.environ, **environment})

    folder = f"outputs/machines/{datetime.now():%Y-%m-%d_%H-%M-%S}"
    print(f"{machines} jobs are started; what they print is kept in {folder}", flush=True)
    ConfigStore.instance().store("machines", {"machine": 0})
    sys.argv[1:] = [
        *("--multirun", f"machine=range(1,{machines + 1})", *launcher, f"hydra.sweep.dir={folder}"),
        *("hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.output_subdir=null"),
    ]
    try:
        hydra.main(version_base="1.3", config_path=None, config_name="machines")(job)()
    except HydraException as error:
        raise ValueError(composition_mistake(error, "train", list(launcher))) from error
    except Exception as error:
        if type(error).__name__ in NOT_STARTED:
            raise
        raise RunStoppedError(f"a job has failed; what it has printed is in {folder}") from error
