"""Records of the jobs of `-m`, which may run in other processes, for the command that waits for them."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from poslab.io.files import read_json, write_atomically

RECORDS = ".jobs"
"""Folder of the records, in the directory of all jobs, while these run."""

DIRECTORIES: list[Path] = []
"""Directory of the jobs that this process has started; empty if it has started a single run."""


class RecordMultirunDir(Callback):
    """A callback of Hydra's that notes the directory of all jobs, in the process that starts them."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        DIRECTORIES[:] = [Path(config.hydra.sweep.dir)]
        shutil.rmtree(DIRECTORIES[0] / RECORDS, ignore_errors=True)  # of a command that was killed
        (DIRECTORIES[0] / RECORDS).mkdir(parents=True)


def noting(arguments: Sequence[str]) -> list[str]:
    """Return the words that make Hydra call `RecordMultirunDir`; none for a single run."""
    DIRECTORIES.clear()
    known, _ = get_args_parser().parse_known_intermixed_args(list(arguments))
    target = f"{RecordMultirunDir.__module__}.{RecordMultirunDir.__name__}"
    return [f"+hydra.callbacks.note_directory._target_={target}"] if known.multirun else []


class JobRecord:
    """Record of the job that runs: what is known of it is on the disk at once. That of a single run is kept nowhere."""

    def __init__(self) -> None:
        hydra = HydraConfig.get()
        self._file = None
        if not OmegaConf.is_missing(hydra.job, "num") and (folder := Path(hydra.sweep.dir) / RECORDS).is_dir():
            self._file = folder / f"{hydra.job.num}.json"
        self._facts: dict[str, Any] = {}

    def add(self, **facts: Any) -> None:
        """Add facts, which are plain data: `overrides`, `config`, those that a command returns, and `error`."""
        self._facts |= facts
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk, which the job itself reports
                write_atomically(self._file, json.dumps(self._facts))


def recorded_jobs(directory: Path) -> list[dict[str, Any]]:
    """Return the records of all jobs in a directory in order, and remove them."""
    folder = directory / RECORDS
    records = [read_json(file) for file in sorted(folder.glob("*.json"), key=lambda file: int(file.stem))]
    shutil.rmtree(folder, ignore_errors=True)
    return records
