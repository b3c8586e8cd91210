"""Samplers and pruners, seeded so that the randomness of a trial depends only on its number, retries not counted."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna import Study, create_study
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, GridSampler, QMCSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from poslab.configuration.build import build
from poslab.experiments.tuning.space import Space
from poslab.experiments.tuning.trial_record import first_attempt, planned_number

OPTUNA = "optuna"


class NumberedSampler(BaseSampler):
    """A sampler that gives trial 0 the default and draws every other trial under a seed made of its place in the plan.

    That is its number without the retries before it. So workers do not draw equal trials, and a sweep draws the same
    ones however often it is stopped and its trials are retried.

    Args:
        node: `_target_` and arguments of an Optuna sampler.
        seed: of the sweep.
        default: the parameters of trial 0, by name.
        trust: packages beside Optuna that may define the sampler.

    Raises:
        ValueError: for an unknown sampler, or arguments that it does not have.
    """

    def __init__(
        self, node: Mapping[str, Any], seed: int, default: Mapping[str, Any], trust: Sequence[str] = ()
    ) -> None:
        self._config = {"sampler": node, "trust": list(trust)}
        self._seed = seed
        self._default = default
        self._sampler = self._seeded(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        if _is_default(trial):
            return
        trials = study._storage.get_all_trials(study._study_id, deepcopy=False)  # a pruner hides some from the study
        planned = copy.copy(trial)
        planned.number = planned_number(trial, trials)  # a grid takes its point by the number
        if not isinstance(self._sampler, GridSampler | QMCSampler):  # all points of a sequence share a seed
            entropy = np.random.SeedSequence((self._seed, planned.number))
            self._sampler = self._seeded(int(entropy.generate_state(1)[0]))
        self._sampler.before_trial(study, planned)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {} if _is_default(trial) else self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {} if _is_default(trial) else self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if _is_default(trial):
            return self._default[param_name]
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        if not _is_default(trial):
            self._sampler.after_trial(study, trial, state, values)

    def _seeded(self, seed: int) -> BaseSampler:
        made = build(self._config, "sampler", Callable[..., BaseSampler], OPTUNA)
        return made(**({"seed": seed} if "seed" in inspect.signature(made).parameters else {}))


def try_sampler(
    node: Mapping[str, Any], space: Space, default: Mapping[str, Any], directions: Sequence[str], trust: Sequence[str]
) -> None:
    """Draw two trials in memory; raise ValueError if the sampler cannot serve the space."""
    known = [StudyDirection[direction.upper()] for direction in directions]
    study = create_study(sampler=NumberedSampler(node, 0, default, trust), directions=known)
    for _ in range(2):
        try:
            space.suggest(study.ask())
        except (ValueError, NotImplementedError) as error:
            raise ValueError(
                f"sampler: {str(node['_target_']).rpartition('.')[2]} cannot search this space: {error}"
            ) from error


def _is_default(trial: FrozenTrial) -> bool:
    """Return whether a trial is trial 0, or an attempt at it."""
    return first_attempt(trial) == 0


def build_pruner(node: Mapping[str, Any] | None, trust: Sequence[str] = ()) -> BasePruner:
    """Build a pruner from its `_target_` and arguments, or for None one that prunes nothing.

    Packages of `trust` may define it, beside Optuna.

    Raises:
        ValueError: for an unknown pruner, or arguments that it does not have.
    """
    if node is None:
        return NopPruner()
    pruner: BasePruner = build({"pruner": node, "trust": list(trust)}, "pruner", BasePruner, OPTUNA)
    return pruner
