"""Training of one trial: a run for each seed, whose metrics become the values of the trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial

from poslab.experiments.pool.run import train_or_resume
from poslab.experiments.pool.source import JobLostError
from poslab.experiments.tuning.objective import Objective
from poslab.experiments.tuning.queue import REASSIGNED
from poslab.experiments.tuning.study import PRUNED, SweepStudy, TrialResult, directory_of
from poslab.experiments.tuning.sweep import Sweep
from poslab.experiments.tuning.trial_configuration import TrialConfigurations
from poslab.experiments.tuning.trial_record import first_attempt
from poslab.runs.directory import RunDirectory
from poslab.runs.errors import RunEndedEarlyError
from poslab.runs.recipe import Recipe
from poslab.runs.trainer_settings import TrainerSettings
from poslab.training.launch import Observer

BY_PRUNER = "pruned"
"""Reason for which a run ends early: the decision of the pruner."""


def train_trial(
    study: SweepStudy,
    sweep: Sweep,
    configurations: TrialConfigurations,
    trial: Trial,
    check_cancelled: Callable[[], None],
) -> TrialResult:
    """Train a trial that was taken; `check_cancelled` is called before each run.

    Raises:
        JobLostError: if somebody else has ended the trial.
        RunInterruptedError: after a signal.
        Exception: any error of a run.
    """
    try:
        metrics, length = _trained(study, trial, sweep, configurations, check_cancelled)
    except UpdateFinishedTrialError as error:
        raise JobLostError from error
    except RunEndedEarlyError as ended:
        if str(ended) == BY_PRUNER:
            return PRUNED
        if str(ended) == REASSIGNED:
            raise JobLostError from ended
        raise
    return TrialResult([finite(objective.value(metrics, length)) for objective in sweep.all_objectives], metrics)


def runs_of(sweep: Sweep, number: int, seed: int) -> list[tuple[int, RunDirectory]]:
    """Return the seeds and runs of a trial: its own directory, or one within it for each of several seeds.

    The number is that of its first attempt, and the seed that of the configuration.
    """
    directory, trust = directory_of(sweep, number), tuple(sweep.trust)
    seeds = range(seed, seed + sweep.seeds)
    return [(s, RunDirectory(directory if sweep.seeds == 1 else directory / f"seed_{s}", trust)) for s in seeds]


def _trained(
    study: SweepStudy,
    trial: Trial,
    sweep: Sweep,
    configurations: TrialConfigurations,
    check_cancelled: Callable[[], None],
) -> tuple[dict[str, float], int]:
    """Train the unfinished runs of a trial; return the means of the metrics of all runs, and the training length."""
    values, objective = sweep.search_space.suggest(trial), sweep.all_objectives[0]
    is_reported = len(sweep.all_objectives) == 1 and objective.is_known_at_validations()
    first = Recipe.of(configurations.of(values))
    length = first.source.sequence_length
    every: list[Mapping[str, float]] = []
    steps_before = 0
    for index, (seed, run) in enumerate(runs_of(sweep, first_attempt(study.current(trial)), first.seed), start=1):
        recipe = first if seed == first.seed else Recipe.of(configurations.of({**values, "seed": seed}))
        reports = is_reported and sweep.seeds == 1
        observer = _reporting(study, trial, objective, length, recipe.trainer) if reports else lambda *_: None

        def begins(saved_steps: int, steps_before: int = steps_before) -> None:
            study.record_beginning(trial, steps_before + saved_steps)

        every.append(train_or_resume(run, dict(recipe.config), observer, check_cancelled, begins))
        steps_before += recipe.trainer.max_steps
        if is_reported and sweep.seeds > 1:
            _report(study, trial, finite(objective.value(every[-1], length)), index)
            if index < sweep.seeds and trial.should_prune():
                raise RunEndedEarlyError(BY_PRUNER)
    shared = [tag for tag in every[0] if all(tag in metrics for metrics in every)]
    return {tag: sum(metrics[tag] for metrics in every) / len(every) for tag in shared}, length


def _reporting(
    study: SweepStudy, trial: Trial, objective: Objective, length: int, settings: TrainerSettings
) -> Observer:
    """Return an observer that reports each validation, the first as 1, and ends the run if the pruner decides so."""

    def observer(step: int, metrics: Mapping[str, float]) -> str | None:
        try:
            value = finite(objective.value(metrics, length))
            _report(study, trial, value, math.ceil(step / settings.validate_every))
        except UpdateFinishedTrialError:
            return REASSIGNED
        except ValueError as error:  # the metric is missing or not finite
            return str(error)
        return BY_PRUNER if step < settings.max_steps and trial.should_prune() else None

    return observer


def finite(value: float) -> float:
    """Return a value of an objective; raise ValueError unless it is finite."""
    if not math.isfinite(value):
        raise ValueError(f"the objective is {value}")
    return value


def _report(study: SweepStudy, trial: Trial, value: float, step: int) -> None:
    """Report a value, unless this trial did so before it was stopped."""
    if step not in study.current(trial).intermediate_values:
        trial.report(value, step)
