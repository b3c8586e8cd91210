"""Configurations of trials, composed by Hydra as for `python -m src.train`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from poslab.configuration.command_line import key_of
from poslab.data.corpus import Corpus
from poslab.experiments.tuning.composition import Composer, full_key, has_key, refuse_own_keys
from poslab.experiments.tuning.space import Values
from poslab.experiments.tuning.sweep import Sweep
from poslab.training.checking import check


class TrialConfigurations:
    """Configurations of the trials of a sweep, composed from a folder with train.yaml.

    Raises:
        ValueError: for choices that a trial cannot have, such as `resume`.
    """

    def __init__(self, conf: Path, sweep: Sweep) -> None:
        self._composer = Composer(conf, sweep.trust)
        self._space = sweep.search_space
        self._objectives = sweep.all_objectives
        self._shared = self._composer.words(sweep.train, sweep.overrides)
        refuse_own_keys(self._shared, "a sweep")
        for key in map(key_of, sweep.overrides):
            if any(key == p.key for p in self._space.parameters):
                raise ValueError(f"{key} is what the sweep searches: its range is in the sweep file")

    def of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the resolved configuration under these values; Hydra raises an error for an unknown key."""
        return self._composer.resolve(self._composed(values))

    def check(self) -> Values:
        """Check the default, and each parameter at the ends of its range, before any training.

        Returns:
            The parameters of trial 0: the default of each, by its name in the study.

        Raises:
            ValueError: in one sentence; Hydra raises its own errors for unknown keys.
        """
        default = self._composed({})
        config = self._composer.resolve(default)
        recipe = check(config)
        if recipe.trainer.num_nodes > 1:
            raise ValueError("trainer.num_nodes must be 1 in a sweep: more machines join by running the same command")
        if isinstance(recipe.source, Corpus):
            self._check_windows(recipe.source)
        for parameter, values in self._space.corners():
            shown = ", ".join(f"{key}={value}" for key, value in values.items())
            composed = self._composed(values)
            for other in self._space.parameters:
                key = full_key(composed, other.key)
                if other.exists(values) and not self._composer.is_group(key) and not has_key(composed, key):
                    raise ValueError(
                        f"space.{other.key}: there is no such key under {shown}: it needs a condition, as in "
                        "when: {encoding: rotary}"
                    )
            try:
                check(self._composer.resolve(composed))
            except ValueError as error:
                raise ValueError(f"space.{parameter.key} at {shown}: {error}") from error
        return self._space.defaults({p.key: self._default(default, config, p.key) for p in self._space.parameters})

    def _check_windows(self, corpus: Corpus) -> None:
        """Raise ValueError for an objective at a window length that is not evaluated."""
        length, multiples = corpus.sequence_length, corpus.length_multiples
        for objective in self._objectives:
            if missing := [x for x in objective.lengths(length) if x not in {length * m for m in multiples}]:
                raise ValueError(
                    f"{objective.label} looks at windows of {missing[0]} tokens, and dataset.length_multiples has "
                    f"none of {missing[0] / length:g} times dataset.sequence_length={length}"
                )

    def _default(self, composed: DictConfig, config: Mapping[str, Any], key: str) -> Any:
        """Return the value of a key without a search; for a config group the choice.

        A pretrained model gives some values itself, such as the learning rate: they stand in the resolved configuration
        alone.
        """
        if self._composer.is_group(key):
            return composed.hydra.runtime.choices.get(key)
        key = full_key(composed, key)
        value = OmegaConf.select(OmegaConf.create(dict(config)), key)
        return OmegaConf.select(composed, key) if value is None else value

    def _composed(self, values: Mapping[str, Any]) -> DictConfig:
        overrides = [*self._shared, *(self._composer.override(key, value) for key, value in values.items())]
        return self._composer.composed(overrides)
