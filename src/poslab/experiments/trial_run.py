"""Training of one trial: a run for each seed, whose metrics become the values of the trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial

from poslab.configuration.command_line import key_of
from poslab.experiments.comparison import naming
from poslab.experiments.composition import Composer, full_key, has_key, refuse_own_keys
from poslab.experiments.jobs import Job, JobLostError
from poslab.experiments.run import train_or_resume
from poslab.experiments.search import PRUNED, SweepJobs, TrialResult, trial_directory
from poslab.experiments.space import Values
from poslab.experiments.sweep import Sweep
from poslab.runs.directory import RunDirectory
from poslab.runs.errors import RunEndedEarlyError
from poslab.runs.recipe import Recipe
from poslab.training.checking import check

BY_PRUNER, REASSIGNED = "pruned", "given up"
"""Reasons for which a run ends early: the decision of the pruner, and another worker that has the job."""


class TrialConfigurations:
    """Configurations of the trials of a sweep, composed from a folder with train.yaml.

    ValueError for choices that a trial cannot have, such as `resume`.
    """

    def __init__(self, conf: Path, sweep: Sweep) -> None:
        self._composer = Composer(conf, sweep.trust)
        self._space = sweep.search_space
        self._shared = self._composer.words(sweep.train, sweep.overrides)
        refuse_own_keys(self._shared, "a sweep")
        for key in map(key_of, sweep.overrides):
            if any(key == p.key for p in self._space.parameters):
                raise ValueError(f"{key} is what the sweep searches: its range is in the sweep file")

    def of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the resolved configuration under these values; Hydra raises an error for an unknown key."""
        return self._composer.resolve(self._composed(values))

    def check(self) -> Values:
        """Check the default, and each parameter at the ends of its range; return the parameters of trial 0 by name.

        ValueError in one sentence; Hydra raises its own errors for unknown keys.
        """
        default = self._composed({})
        config = self._composer.resolve(default)
        recipe = check(config)
        if recipe.trainer.num_nodes > 1:
            raise ValueError("trainer.num_nodes must be 1 in a sweep: more machines join by running the same command")
        for parameter, values in self._space.corners():
            shown = ", ".join(f"{key}={value}" for key, value in values.items())
            composed = self._composed(values)
            for other in self._space.parameters:
                key = full_key(composed, other.key)
                if other.exists(values) and not self._composer.is_group(key) and not has_key(composed, key):
                    raise ValueError(
                        f"space.{other.key} is not a key under {shown}: it needs a condition, as in "
                        "when: {encoding: rotary}"
                    )
            with naming(f"space.{parameter.key} at {shown}"):
                check(self._composer.resolve(composed))
        return self._space.defaults({p.key: self._default(default, config, p.key) for p in self._space.parameters})

    def _default(self, composed: DictConfig, config: Mapping[str, Any], key: str) -> Any:
        """Return the value of a key without a search: of a group its choice, of a pretrained model perhaps its own."""
        if self._composer.is_group(key):
            return composed.hydra.runtime.choices.get(key)
        key = full_key(composed, key)
        value = OmegaConf.select(OmegaConf.create(dict(config)), key)
        return OmegaConf.select(composed, key) if value is None else value

    def _composed(self, values: Mapping[str, Any]) -> DictConfig:
        overrides = [*self._shared, *(self._composer.override(key, value) for key, value in values.items())]
        return self._composer.composed(overrides)


def train_trial(
    jobs: SweepJobs, configurations: TrialConfigurations, job: Job, check_cancelled: Callable[[], None]
) -> TrialResult | None:
    """Train a trial that was taken; return None if Optuna knows its end.

    `check_cancelled` is called before each run, and raises RunInterruptedError after a signal. JobLostError if another
    process has failed the job.
    """
    trial, sweep = jobs.trial(job), jobs.sweep
    if trial is None:
        return None
    try:
        metrics, length = _trained(jobs, job, trial, configurations, check_cancelled)
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

    The seed is the configuration's.
    """
    directory, trust = trial_directory(sweep, number), tuple(sweep.trust)
    seeds = range(seed, seed + sweep.seeds)
    return [(s, RunDirectory(directory if sweep.seeds == 1 else directory / f"seed_{s}", trust)) for s in seeds]


def _trained(
    jobs: SweepJobs, job: Job, trial: Trial, configurations: TrialConfigurations, check_cancelled: Callable[[], None]
) -> tuple[dict[str, float], int]:
    """Train the unfinished runs of a trial; return the means of the metrics of all runs, and the training length."""
    sweep, objective = jobs.sweep, jobs.sweep.all_objectives[0]
    values = sweep.search_space.suggest(trial)
    is_reported = len(sweep.all_objectives) == 1 and objective.is_known_at_validations()
    first = Recipe.of(configurations.of(values))
    length = first.source.sequence_length
    reported = set(jobs.trials()[job.key].intermediate_values)
    every: list[Mapping[str, float]] = []

    def report(value: float, step: int) -> None:
        if step not in reported:  # before it was stopped
            trial.report(finite(value), step)

    def observer(step: int, metrics: Mapping[str, float]) -> str | None:
        if job.lost.is_set():
            return REASSIGNED
        if not is_reported or sweep.seeds > 1:
            return None
        try:
            report(objective.value(metrics, length), math.ceil(step / first.trainer.validate_every))
        except UpdateFinishedTrialError:
            return REASSIGNED
        except ValueError as error:  # the metric is missing or not finite
            return str(error)
        return BY_PRUNER if step < first.trainer.max_steps and trial.should_prune() else None

    for index, (seed, run) in enumerate(runs_of(sweep, trial.number, first.seed)):
        recipe = first if seed == first.seed else Recipe.of(configurations.of({**values, "seed": seed}))
        every.append(train_or_resume(run, dict(recipe.config), observer, check_cancelled))
        if is_reported and sweep.seeds > 1:
            report(objective.value(every[-1], length), index + 1)
            if index + 1 < sweep.seeds and trial.should_prune():
                raise RunEndedEarlyError(BY_PRUNER)
    shared = [tag for tag in every[0] if all(tag in metrics for metrics in every)]
    return {tag: sum(metrics[tag] for metrics in every) / len(every) for tag in shared}, length


def finite(value: float) -> float:
    """Return a value of an objective; raise ValueError unless it is finite."""
    if not math.isfinite(value):
        raise ValueError(f"the objective is {value}")
    return value
