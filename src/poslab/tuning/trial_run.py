"""One trial: its configuration is trained, its figures become values, and whatever happens is told to the study."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial, TrialState

from poslab.io.reading import read_json
from poslab.io.terminal import one_line
from poslab.runs.checkpoint import load_checkpoint
from poslab.runs.directory import RunDirectory
from poslab.runs.errors import (
    DiskError,
    NonFiniteLossError,
    ProcessDiedError,
    RunEndedEarlyError,
    RunInterruptedError,
    RunStoppedError,
)
from poslab.runs.trainer_settings import TrainerSettings
from poslab.training.checking import check
from poslab.training.observation import Observer
from poslab.training.resume import Plan
from poslab.training.train import train
from poslab.tuning.attributes import BEGAN_AFTER
from poslab.tuning.ledger import first_attempt
from poslab.tuning.objective import Objective
from poslab.tuning.outside import ended_from_outside
from poslab.tuning.space import Values
from poslab.tuning.storage import STORAGE_ERRORS
from poslab.tuning.study import SweepStudy
from poslab.tuning.sweep import Sweep
from poslab.tuning.trial_configuration import TrialConfigurations

PRUNED, GIVEN_UP = "pruned", "given up"
"""Why a run ends early: the pruner says so, or somebody took it for lost."""


OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "DataLoader worker")
"""What torch says of it in a RuntimeError."""


def run_trial(
    study: SweepStudy,
    trial: Trial,
    sweep: Sweep,
    configurations: TrialConfigurations,
    heed: Callable[[], None],
) -> None:
    """Trains a trial that was taken, and ends it: complete, pruned or failed.

    Args:
        study: the study.
        trial: which of its trials.
        sweep: the sweep.
        configurations: of its trials.
        heed: is called before each run, and raises RunInterruptedError if a signal has come.

    Raises:
        RunInterruptedError: if a signal asked for it; the trial then waits again, and goes on where it was.
        DiskError: if nothing more can be written.
        Exception: what only a bug explains, after the trial has failed; this process is not to be trusted then.
    """
    try:
        values = sweep.search_space.suggest(trial)
        figures, length = _trained(study, trial, sweep, configurations, values, heed)
        results = [finite(objective.value(figures, length)) for objective in sweep.all_objectives]
    except UpdateFinishedTrialError:  # somebody took it for lost
        return
    except RunInterruptedError:
        study.put_back(trial)
        raise
    except RunEndedEarlyError as ended:
        if str(ended) == PRUNED:
            study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        elif str(ended) != GIVEN_UP:
            study.fail(trial, str(ended), can_pass=False)
    except (ValueError, NonFiniteLossError) as error:
        study.fail(trial, str(error), can_pass=False)
    except DiskError as error:
        with contextlib.suppress(*STORAGE_ERRORS):  # which may be on the same disk
            study.fail(trial, str(error), can_pass=True)
        raise
    except Exception as error:
        by = error.ended_by if isinstance(error, ProcessDiedError) else None
        from_outside = by is not None and ended_from_outside(by)
        study.fail(trial, f"{type(error).__name__}: {error}", can_pass=_can_pass(error), from_outside=from_outside)
        if not isinstance(error, RunStoppedError | MemoryError | torch.OutOfMemoryError | OSError):
            raise
    else:
        study.complete(trial, results, figures)


def _can_pass(error: Exception) -> bool:
    """Return whether a trial may do better another time: a process died, a file vanished, memory or storage failed."""
    if isinstance(error, (RunStoppedError, MemoryError, torch.OutOfMemoryError, OSError, *STORAGE_ERRORS)):
        return True
    # On a CPU torch says so in words alone.
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def directory_of(sweep: Sweep, number: int) -> Path:
    """Where a trial is kept, by the number of its first attempt."""
    return Path(sweep.output) / "trials" / f"{number:04}"


def runs_of(sweep: Sweep, number: int, seed: int) -> list[tuple[int, RunDirectory]]:
    """The seeds and runs of a trial: its own directory, or one within it for each of several seeds.

    Args:
        sweep: the sweep.
        number: of the first attempt.
        seed: of the configuration.
    """
    directory, trust = directory_of(sweep, number), tuple(sweep.trust)
    if sweep.seeds == 1:
        return [(seed, RunDirectory(directory, trust))]
    return [(s, RunDirectory(directory / f"seed_{s}", trust)) for s in range(seed, seed + sweep.seeds)]


def _trained(
    study: SweepStudy,
    trial: Trial,
    sweep: Sweep,
    configurations: TrialConfigurations,
    values: Values,
    heed: Callable[[], None],
) -> tuple[dict[str, float], int]:
    """The mean figures of a trial's runs, each of which is trained unless it is finished already; and their length."""
    objective = sweep.all_objectives[0]
    is_reported = len(sweep.all_objectives) == 1 and objective.is_known_at_validations()
    number = first_attempt(study.current(trial))
    first = configurations.of(values)
    length: int = first["dataset"]["sequence_length"]
    every: list[Mapping[str, float]] = []
    steps_before = 0
    for index, (seed, run) in enumerate(runs_of(sweep, number, first["seed"]), start=1):
        config = first if seed == first["seed"] else configurations.of({**values, "seed": seed})
        while run.is_held:  # by a worker that counts as lost, which its next report will tell
            heed()
        saved_steps = _saved_steps(run, config)
        if not run.is_finished:
            recipe = check(config)
            study.storage.set_trial_user_attr(trial._trial_id, BEGAN_AFTER, steps_before + saved_steps)
            reports = is_reported and sweep.seeds == 1
            observer = _reporting(study, trial, objective, length, recipe.trainer) if reports else _looking_on
            checkpoint = run.last_checkpoint if run.last_checkpoint.exists() else None
            heed()
            if recipe.trainer.compile:
                torch.compiler.reset()  # after eight models of a process torch would compile no more
            train(Plan(run, config, checkpoint), recipe, observer)
            if not run.config_file.exists():
                raise FileNotFoundError(f"{run.path} vanished while it was trained")
        steps_before += config["trainer"]["max_steps"]
        every.append(run.metrics())
        if is_reported and sweep.seeds > 1:
            try:
                _report(study, trial, finite(objective.value(every[-1], length)), index)
            except UpdateFinishedTrialError:
                raise RunEndedEarlyError(GIVEN_UP) from None
            if index < sweep.seeds and trial.should_prune():
                raise RunEndedEarlyError(PRUNED)
    shared = [tag for tag in every[0] if all(tag in figures for figures in every)]
    return {tag: sum(figures[tag] for figures in every) / len(every) for tag in shared}, length


def _saved_steps(run: RunDirectory, config: Mapping[str, Any]) -> int:
    """Return how many steps of an unfinished run are saved; set aside a run that is damaged, so that it begins anew."""
    if not run.path.exists():
        return 0
    try:
        run.check_files()
        if run.config() != config:
            raise ValueError(f"{run.config_file} holds another configuration")
        if run.environment_file.exists():
            read_json(run.environment_file)
        if run.is_finished:
            run.metrics()
        elif run.last_checkpoint.exists():
            return int(load_checkpoint(run.last_checkpoint)["global_step"])
    except ValueError as error:
        aside = run.path.with_name(f"{run.path.name}.damaged")
        print(one_line(f"{run.path} begins anew, what was there is in {aside}: {error}"), flush=True)
        if aside.exists():
            shutil.rmtree(aside)
        run.path.rename(aside)
    return 0


def _reporting(
    study: SweepStudy, trial: Trial, objective: Objective, length: int, settings: TrainerSettings
) -> Observer:
    """Reports each validation, counted from 1, and ends the run where the pruner says so."""

    def observer(step: int, figures: Mapping[str, float]) -> str | None:
        try:
            value = finite(objective.value(figures, length))
            _report(study, trial, value, math.ceil(step / settings.validate_every))
        except UpdateFinishedTrialError:
            return GIVEN_UP
        except ValueError as error:  # there is no such figure, or it is no number
            return str(error)
        return PRUNED if step < settings.max_steps and trial.should_prune() else None

    return observer


def finite(value: float) -> float:
    """A value that a study takes; ValueError for one that is no number."""
    if not math.isfinite(value):
        raise ValueError(f"the objective is {value}")
    return value


def _looking_on(step: int, figures: Mapping[str, float]) -> str | None:
    """Lets every run come to its end."""
    return None


def _report(study: SweepStudy, trial: Trial, value: float, step: int) -> None:
    """Reports a value, unless this trial did so before it was stopped."""
    if step not in study.current(trial).intermediate_values:
        trial.report(value, step)
