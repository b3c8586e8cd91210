"""How the parameters of a trial are chosen, so that the number of a trial alone decides what is random in it."""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from optuna import Study, create_study
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, QMCSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from poslab.tuning.ledger import first_attempt
from poslab.tuning.space import Space


class NumberedSampler(BaseSampler):
    """Trial 0 is the default; each other trial is drawn by a sampler that is seeded by the trial's number.

    So workers do not draw the same trials, and a sweep that was stopped goes on as if it had not been.

    Args:
        node: `_target_` and arguments of an Optuna sampler.
        seed: of the sweep.
        default: the parameters of trial 0, by name.

    Raises:
        ValueError: if there is no such sampler, or it does not take these arguments.
    """

    def __init__(self, node: Mapping[str, Any], seed: int, default: Mapping[str, Any]) -> None:
        self._node = node
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
        takes_seed = "seed" in inspect.signature(_class_of(self._node, "sampler", BaseSampler)).parameters
        return _built(self._node, "sampler", BaseSampler, **({"seed": seed} if takes_seed else {}))


def try_sampler(node: Mapping[str, Any], space: Space, default: Mapping[str, Any], directions: Sequence[str]) -> None:
    """Draws two trials in memory; ValueError if the sampler cannot serve the space."""
    known = [StudyDirection[direction.upper()] for direction in directions]
    study = create_study(sampler=NumberedSampler(node, 0, default), directions=known)
    for _ in range(2):
        try:
            space.suggest(study.ask())
        except (ValueError, NotImplementedError) as error:
            raise ValueError(
                f"sampler: {str(node['_target_']).rpartition('.')[2]} cannot search this space: {error}"
            ) from error


def _is_default(trial: FrozenTrial) -> bool:
    """Whether it is trial 0, or an attempt at it."""
    return first_attempt(trial) == 0


def build_pruner(node: Mapping[str, Any] | None) -> BasePruner:
    """The pruner that `_target_` and arguments describe; one that prunes nothing for None.

    Raises:
        ValueError: if there is no such pruner, or it does not take these arguments.
    """
    return NopPruner() if node is None else _built(node, "pruner", BasePruner)


def _class_of(node: Mapping[str, Any], key: str, kind: type) -> type:
    target = pydoc.locate(str(node.get("_target_"))) if isinstance(node, Mapping) else None
    if not isinstance(target, type) or not issubclass(target, kind):
        raise ValueError(f"{key}._target_ must name one of optuna.{key}s, as in {{_target_: ...}}, got {node!r}")
    return target


def _built(node: Mapping[str, Any], key: str, kind: type, **arguments: Any) -> Any:
    _class_of(node, key, kind)
    try:
        return instantiate(dict(node), **arguments, _convert_="all")
    except InstantiationException as error:
        raise ValueError(f"{key}: {error.__cause__ or error}") from error
