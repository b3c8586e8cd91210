"""A sweep: one question, its search space, its objectives, and the settings of the search; and the files of sweeps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from poslab.arguments import Count, Range, with_checked_arguments
from poslab.configuration.command_line import LENGTH, whole_tokens
from poslab.configuration.spec_files import SpecFiles
from poslab.experiments.composition import with_rates_of_typed_model
from poslab.experiments.space import Space
from poslab.experiments.storage_url import MAX_TRIALS, Stored, mistake_in_storage

KEYS = ("question", "train", "space", "objectives", "n_trials", "seeds", "sampler", "pruner")
"""Keys of a sweep file other than `presets`."""

SPLITS = ("validation/", "train/", "memory/", "parameters")
"""Beginnings of tags that may be tuned on; test metrics never are."""

MEAN_BEYOND = {"mean": [f"validation/bits_per_byte@{times}x" for times in (1, 2, 4)], "direction": "minimize"}
"""Default objective: tuning an encoding only at its training length reveals little."""


@dataclass(frozen=True)
class SearchObjective:
    """The mean of some metrics of metrics.json, by their tags; `@2x` is twice the training length.

    Raises:
        ValueError: for test metrics, an unknown direction, or no metrics.
    """

    metrics: tuple[str, ...]
    direction: str

    def __post_init__(self) -> None:
        if not self.metrics or not all(isinstance(tag, str) for tag in self.metrics):
            raise ValueError("objectives: mean must list metrics of metrics.json, as in [validation/bits_per_byte@2x]")
        for tag in self.metrics:
            if tag.startswith("test/"):
                raise ValueError(f"objectives must not be test metrics, which are never tuned on, got {tag}")
            if not tag.startswith(SPLITS):
                raise ValueError(f"objectives must be metrics such as validation/bits_per_byte@2x, got {tag}")
        if self.direction not in ("minimize", "maximize"):
            raise ValueError(f"direction of an objective must be minimize or maximize, got {self.direction}")

    @classmethod
    def of(cls, node: Any) -> SearchObjective:
        """Return the objective that a sweep file describes: a tag, or `{mean: [tags], direction: minimize}`."""
        if isinstance(node, str):
            node = {"mean": [node]}
        if not isinstance(node, Mapping) or not node.keys() <= {"mean", "direction"}:
            raise ValueError(f"objectives must be a list of {{mean: [metrics], direction: minimize}}, got {node!r}")
        tags = node.get("mean")
        return cls(tuple(tags) if isinstance(tags, list) else (), node.get("direction", "minimize"))

    @property
    def minimized(self) -> bool:
        """True if less is better."""
        return self.direction == "minimize"

    @property
    def better(self) -> str:
        """The better direction in a word: less or more."""
        return "less" if self.minimized else "more"

    @property
    def label(self) -> str:
        """Name in tables: `validation/bits_per_byte@1x+2x+4x`."""
        name, at, _ = self.metrics[0].partition("@")
        if at and all(tag.startswith(f"{name}@") for tag in self.metrics):
            return f"{name}@{'+'.join(tag.partition('@')[2] for tag in self.metrics)}"
        return " + ".join(self.metrics)

    def is_known_at_validations(self) -> bool:
        """Return whether it can be reported while a run trains."""
        return all(tag.startswith("validation/") for tag in self.metrics)

    def value(self, metrics: Mapping[str, float], training_length: int) -> float:
        """Return the mean over a run's metrics by tag, with its training length in tokens; ValueError without one."""
        tags = [self._tag(tag, training_length) for tag in self.metrics]
        for tag in tags:
            if tag not in metrics:
                raise ValueError(f"the run has no {tag}: is there such a metric, or does its encoding end before?")
        return sum(metrics[tag] for tag in tags) / len(tags)

    @staticmethod
    def _tag(tag: str, training_length: int) -> str:
        name, _, length = tag.partition("@")
        return f"{name}@{whole_tokens(length, training_length)}" if re.fullmatch(LENGTH, length) else tag

    def lengths(self, training_length: int) -> list[int]:
        """Return the window lengths, in tokens, of its metrics; ValueError for a multiple that is no whole number."""
        resolved = (self._tag(tag, training_length).partition("@")[2] for tag in self.metrics)
        return [int(length) for length in resolved if length.isdigit()]


@with_checked_arguments
@dataclass(frozen=True)
class Sweep(Stored):
    """A sweep as plain data, which can be sent to workers and kept with a study.

    Args:
        space: as for `Space`.
        n_trials: number of trials, the default configuration included; at most 10,000.
        objectives: each as for `SearchObjective.of`.
        sampler: `_target_` and arguments of an Optuna sampler.
        pruner: `_target_` and arguments of an Optuna pruner; None prunes nothing.
        seeds: runs of each trial, from the configuration's seed on; the value is their mean.
        others: as in `Stored`; `sampler` and `pruner` may name packages of `trust`, and Optuna.
    """

    space: Any
    n_trials: Annotated[int, Range(1, MAX_TRIALS)]
    objectives: Any = field(default_factory=lambda: [MEAN_BEYOND])
    sampler: Mapping[str, Any] = field(default_factory=lambda: {"_target_": "optuna.samplers.TPESampler"})
    pruner: Mapping[str, Any] | None = None
    seeds: Count = 1

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise ValueError(f"name must be letters, digits, dots, - and _, got {self.name!r}")
        if not self.question:
            raise ValueError("question must be a sentence")
        if not self.output:
            raise ValueError("output must be a directory, such as outputs/sweeps/mine")
        if self.storage is not None and (mistake := mistake_in_storage(self.storage)):
            raise ValueError(mistake)
        for name, node in (("sampler", self.sampler), ("pruner", self.pruner)):
            if node is not None and "_target_" not in node:
                raise ValueError(f"{name} must be {{_target_: optuna.{name}s...}} with its arguments, got {node!r}")
        if "seed" in self.sampler:
            raise ValueError("sampler.seed follows from seed and the number of the trial: leave it out")
        if "trust" in self.train:
            raise ValueError("train must not have trust, which is given only on the command line")
        if of_hydra := [key for key in self.train if str(key).lstrip("+~").startswith("hydra")]:
            raise ValueError(f"train must not have {of_hydra[0]}: keys of Hydra are given only on the command line")
        _ = self.search_space  # raises ValueError for an invalid one
        if len(self.all_objectives) > 1 and self.pruner is not None:
            raise ValueError("pruner must be null if there are several objectives: trials cannot be compared early")
        if self.pruner is not None and not self.all_objectives[0].is_known_at_validations():
            raise ValueError(
                f"pruner must be null for {self.all_objectives[0].label}, which is not known before the end of a run"
            )

    @property
    def search_space(self) -> Space:
        return Space(self.space)

    @property
    def all_objectives(self) -> list[SearchObjective]:
        """Its objectives; ValueError if there are none."""
        nodes = self.objectives
        if not isinstance(nodes, list) or not nodes:
            raise ValueError(f"objectives must be a list of at least one, as in [validation/loss], got {nodes!r}")
        return [SearchObjective.of(node) for node in nodes]


def read_sweep(folder: Path, given: Mapping[str, Any], overrides: Sequence[str]) -> Sweep:
    """Return the sweep of a command line, with its own keys and its choices of every trial.

    ValueError is raised for an unknown sweep, preset or key, or an invalid value.
    """
    stem, node = sweep_files(folder).chosen(given, Sweep, overrides)
    try:
        return Sweep(**with_rates_of_typed_model(node, overrides))
    except ValueError as error:
        raise ValueError(f"{error} (sweep={stem})") from error


def sweep_files(folder: Path) -> SpecFiles:
    return SpecFiles("sweep", folder, KEYS)
