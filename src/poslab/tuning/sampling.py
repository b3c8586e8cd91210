"""Samplers and pruners, seeded so that the number of a trial alone decides what is random in it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna import Study, create_study
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, QMCSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from poslab.configuration.build import build
from poslab.tuning.space import Space
from poslab.tuning.trial_record import first_attempt

OPTUNA = "optuna"


class NumberedSampler(BaseSampler):
    """A sampler of trials: trial 0 is the default, and each other one is drawn under a seed made of its number.

    So workers do not draw the same trials, and a sweep that was stopped goes on as if it had not been.

    Args:
        node: `_target_` and arguments of an Optuna sampler.
        seed: of the sweep.
        default: the parameters of trial 0, by name.
        trust: packages beside Optuna that may define the sampler.

    Raises:
        ValueError: if there is no such sampler, or it does not take these arguments.
    """

    def __init__(
        self, node: Mapping[str, Any], seed: int, default: Mapping[str, Any], trust: Sequence[str] = ()
    ) -> None:
        self._config = {"sampler": node, "trust": list(trust)}
        self._seed = seed
        self._default = default
        self._sampler = self._seeded(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        # The points of a quasi-random sequence belong together: all of its trials share a seed.
        if not _is_default(trial) and not isinstance(self._sampler, QMCSampler):
            entropy = np.random.SeedSequence((self._seed, first_attempt(trial)))
            self._sampler = self._seeded(int(entropy.generate_state(1)[0]))
        if not _is_default(trial):
            self._sampler.before_trial(study, trial)

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
    """Build the pruner that `_target_` and arguments describe; one that prunes nothing for None.

    Args:
        node: the description.
        trust: packages beside Optuna that may define it.

    Raises:
        ValueError: if there is no such pruner, or it does not take these arguments.
    """
    if node is None:
        return NopPruner()
    pruner: BasePruner = build({"pruner": node, "trust": list(trust)}, "pruner", BasePruner, OPTUNA)
    return pruner
