"""One run of a job: trained, resumed, or restarted if its directory is damaged."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from poslab.io.files import read_json
from poslab.io.terminal import one_line
from poslab.runs.checkpoint import load_checkpoint
from poslab.runs.directory import JOB_FILE, RunDirectory
from poslab.training.checking import check
from poslab.training.fit import train
from poslab.training.launch import Observer
from poslab.training.resume import Plan, changes_since

POLL_INTERVAL_S = 0.2  # pause between two checks of a run that another process still trains


def train_or_resume(
    run: RunDirectory, config: dict[str, Any], observer: Observer | None, check_cancelled: Callable[[], None]
) -> dict[str, float]:
    """Train a run, whose directory need not exist, from its last checkpoint, unless it is finished; return its metrics.

    The observer sees each validation; a run without one is tested. `check_cancelled` is called before training and
    while waiting for another process, and may raise RunInterruptedError.

    Raises:
        ValueError: as `check` and `train` do.
        FileNotFoundError: if the directory vanishes while the run is trained.
        RunInterruptedError: after a signal.
        RunStoppedError: as `train` does.
    """
    while run.is_held:  # by a worker that counts as lost, and learns so by its next report
        check_cancelled()
        time.sleep(POLL_INTERVAL_S)
    _set_aside_if_damaged(run, config)
    if not run.is_finished:
        recipe = check(config)
        checkpoint = run.last_checkpoint if run.last_checkpoint.exists() else None
        check_cancelled()
        if recipe.trainer.compile:
            torch.compiler.reset()  # torch compiles at most eight models in a process
        train(Plan(run, config, checkpoint), recipe, observer)
        if not run.config_file.exists():
            raise FileNotFoundError(f"{run.path} vanished while it was trained")
    return run.metrics()


def _set_aside_if_damaged(run: RunDirectory, config: Mapping[str, Any]) -> None:
    """Move the files of a damaged run, or of another configuration, to a directory next to it."""
    try:
        run.check_files()
        if run.is_fresh:
            return
        if (change := next(changes_since(run.config(), config), None)) is not None:
            raise ValueError(f"{run.config_file} has another {change[0]}")
        if run.environment_file.exists():
            read_json(run.environment_file)
        if run.is_finished:
            run.metrics()
        elif run.last_checkpoint.exists():
            load_checkpoint(run.last_checkpoint)
    except ValueError as error:
        aside = run.path.with_name(f"{run.path.name}.damaged")
        print(one_line(f"{run.path} starts from step 0, its earlier files are in {aside}: {error}"), flush=True)
        if aside.exists():
            shutil.rmtree(aside)
        aside.mkdir()
        for entry in list(run.path.iterdir()):
            if JOB_FILE not in entry.name:  # the record of the job is not damaged, and others may change it now
                entry.rename(aside / entry.name)
