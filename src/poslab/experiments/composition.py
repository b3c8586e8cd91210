"""Configurations composed by Hydra as for `python -m src.train`, for runs that a program chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from poslab.arguments import shown
from poslab.configuration.command_line import SEVERAL, in_hydras_grammar, key_of
from poslab.configuration.outside_files import initialized
from poslab.data.composed import check_added_keys, check_choices, rate, rate_fraction, resolved
from poslab.runs.directory import GROUPS


class Composer:
    """Composes configurations from a folder with train.yaml, whose parts may come from packages that are trusted."""

    def __init__(self, conf: Path, trust: Sequence[str]) -> None:
        self.conf = conf
        self._trust = list(trust)

    def composed(self, overrides: Sequence[str]) -> DictConfig:
        """Return an unresolved configuration, with the settings of Hydra, which raises an error for an unknown key.

        Keys of a scaling may be written short, as `encoding.factor=4` for `encoding.scaling.factor=4`.
        """
        words = list(overrides)
        with initialized(self.conf):
            try:
                return compose("train", overrides=words, return_hydra_config=True)
            except ConfigCompositionException as error:
                keys = {word: key_of(word).partition("@")[0] for word in words}
                chosen = [word for word, key in keys.items() if key == "hydra.searchpath" or self.is_group(key)]
                try:
                    base = compose("train", overrides=chosen)
                except (HydraException, OmegaConfBaseException):
                    raise error from None
                parts = (word.partition("=") for word in words)
                whole = [f"{full_key(base, key)}{equals}{value}" for key, equals, value in parts]
                if whole == words:
                    raise
                return compose("train", overrides=whole, return_hydra_config=True)

    def resolved(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return a resolved configuration."""
        return self.resolve(self.composed(overrides))

    def resolve(self, composed: DictConfig) -> dict[str, Any]:
        node = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        node.trust = self._trust
        chosen, overrides = composed.hydra.runtime.choices, composed.hydra.overrides.task
        check_choices(self.conf, chosen, overrides)
        groups = (path.name for path in self.conf.iterdir() if path.is_dir())
        keys = [*groups, *chosen, *OmegaConf.load(self.conf / "train.yaml")]
        check_added_keys(keys, node, overrides)
        return resolved(node)

    def is_group(self, key: str) -> bool:
        return (self.conf / key).is_dir()

    def words(self, choices: Mapping[str, Any], typed: Sequence[str]) -> list[str]:
        """Return the choices of a file and the overrides that were typed as one command line.

        A typed path of a model replaces the pretrained model that the file names, with its settings.
        """
        has_path = "model.path" in map(key_of, typed)
        kept = {key: value for key, value in choices.items() if not (has_path and key == "pretrained")}
        return [*(self.override(key, value) for key, value in kept.items()), *typed]

    def override(self, key: str, value: Any) -> str:
        """Return an override of the command line, which removes a group if the value is null."""
        group = key.lstrip("+~").partition("@")[0]
        choices = value if group in SEVERAL and isinstance(value, list) else [value]
        if ".." in Path(group).parts or (
            self.is_group(group)
            and not all(
                ".." not in Path(choice).parts if isinstance(choice, str) else choice is None and group not in GROUPS
                for choice in choices
            )
        ):
            raise ValueError(f"{key} must be a choice of conf/{group}, got {shown(value)}")
        return f"~{key}" if value is None and self.is_group(key) else f"{key}={in_hydras_grammar(value)}"


def has_key(composed: DictConfig, key: str) -> bool:
    """Return whether a configuration has a dotted key, even if its value is null."""
    group, _, name = key.rpartition(".")
    node = OmegaConf.select(composed, group) if group else composed
    return isinstance(node, DictConfig) and name in node


def full_key(composed: DictConfig, key: str) -> str:
    """Return a key, a scaling's key written out: `encoding.scaling.factor` for `encoding.factor`."""
    node, _, leaf = key.rpartition(".")
    whole = f"{node}.scaling.{leaf}"
    return whole if not has_key(composed, key) and has_key(composed, whole) else key


def with_rates_of_typed_model(node: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the keys of a file for the pretrained model that a command line chooses instead of the file's, if it does.

    Learning rates, whether given, tuned or searched, are then smaller by `rate_fraction`, as the default rate is.
    """
    typed = {key_of(word): word.partition("=")[2].strip("'\"") for word in overrides}
    if typed.get("model") != "pretrained" and "model.path" not in typed:
        return dict(node)
    fraction = rate_fraction(typed.get("model.path", "")) or 0.1

    def smaller(value: Any) -> Any:
        if isinstance(value, list):
            return [smaller(item) for item in value]
        if isinstance(value, Mapping):  # a range of a sweep
            return {key: smaller(item) if key in ("float", "choices") else item for key, item in value.items()}
        return rate(value, fraction) if isinstance(value, float) else value

    def of_model(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: smaller(item) if key == "optimizer.lr" else of_model(item) for key, item in value.items()}

    return {str(key): of_model(value) for key, value in node.items()}


def refuse_own_keys(overrides: Sequence[str], of: str) -> None:
    """Raise ValueError for an override that belongs to a single run, such as `resume`; `of` is `a sweep`."""
    for override in overrides:
        key = key_of(override)
        if key == "resume" or (key.partition(".")[0] == "hydra" and key != "hydra.searchpath"):
            raise ValueError(f"{key} belongs to a single run: the same command resumes {of}")
