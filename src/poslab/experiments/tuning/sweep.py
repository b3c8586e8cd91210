"""A sweep: one question, its search space, and the settings of the search."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from poslab.experiments.tuning.objective import Objective, objectives_of
from poslab.experiments.tuning.space import Space
from poslab.experiments.tuning.storage_url import MAX_TRIALS, mistake_in_storage

MEAN_BEYOND = {"mean": [f"validation/bits_per_byte@{times}x" for times in (1, 2, 4)], "direction": "minimize"}
"""Default objective: tuning an encoding at its training length alone reveals little."""


@dataclass(frozen=True)
class Sweep:
    """A sweep as plain data, which can be sent to workers and kept with a study.

    Args:
        name: of the study, and of its directory.
        question: one sentence.
        train: choices of every trial, by key, as for `python -m src.train`.
        space: as for `Space`.
        n_trials: number of trials, the default configuration included; at most 10,000.
        output: the directory.
        objectives: each as for `Objective.of`.
        sampler: `_target_` and arguments of an Optuna sampler.
        pruner: `_target_` and arguments of an Optuna pruner; None prunes nothing.
        seeds: runs of each trial, from the configuration's seed on; the value is their mean.
        overrides: choices of every trial as typed, which override `train`.
        workers: processes on this machine that train, each with its share of cores, or a GPU of its own.
        storage: URL of the study's database (SQLite, PostgreSQL or MySQL); None means a file of SQLite in the
            directory.
        hang_after: seconds without anything new in a run's directory after which its worker is ended.
        lost_after: seconds of silence after which a trial of another machine counts as lost.
        trust: packages beside Poslab and Optuna that choices, sampler and pruner may name.
    """

    name: str
    question: str
    train: Mapping[str, Any]
    space: Mapping[str, Any]
    n_trials: int
    output: str
    objectives: Sequence[Any] = field(default_factory=lambda: [MEAN_BEYOND])
    sampler: Mapping[str, Any] = field(default_factory=lambda: {"_target_": "optuna.samplers.TPESampler"})
    pruner: Mapping[str, Any] | None = None
    seeds: int = 1
    overrides: Sequence[str] = field(default_factory=list)
    workers: int = 1
    storage: str | None = None
    hang_after: int = 1800
    lost_after: int = 60
    trust: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, least in (("n_trials", 1), ("seeds", 1), ("workers", 1), ("hang_after", 1), ("lost_after", 3)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
        if self.n_trials > MAX_TRIALS:
            raise ValueError(f"n_trials must be at most {MAX_TRIALS:,}, got {self.n_trials:,}")
        if not isinstance(self.question, str) or not self.question:
            raise ValueError("question must be a sentence")
        if not isinstance(self.name, str) or not re.fullmatch(r"[\w.-]+", self.name):
            raise ValueError(f"name must be letters, digits, dots, - and _, got {self.name!r}")
        if not isinstance(self.output, str) or not self.output:
            raise ValueError(f"output must be a directory, such as outputs/sweeps/mine, got {self.output!r}")
        if self.storage is not None and (mistake := mistake_in_storage(str(self.storage))):
            raise ValueError(mistake)
        for name, node in (("sampler", self.sampler), ("pruner", self.pruner)):
            is_object = isinstance(node, Mapping) and "_target_" in node
            if not is_object and (node is not None or name == "sampler"):
                raise ValueError(f"{name} must be {{_target_: optuna.{name}s...}} with its arguments, got {node!r}")
        if "seed" in self.sampler:
            raise ValueError("sampler.seed follows from seed and the number of the trial: leave it out")
        if not isinstance(self.train, Mapping):
            raise ValueError("train must be choices by key, as in {encoding: rotary}")
        if "trust" in self.train:
            raise ValueError("train must not have trust, which is given on the command line alone")
        if of_hydra := [key for key in self.train if str(key).lstrip("+~").startswith("hydra")]:
            raise ValueError(f"train must not have {of_hydra[0]}: keys of Hydra are given on the command line alone")
        _ = self.search_space  # raises ValueError for an invalid one
        if len(self.all_objectives) > 1 and self.pruner is not None:
            raise ValueError("pruner must be null if there are several objectives: trials cannot be compared early")
        if self.pruner is not None and not self.all_objectives[0].is_known_at_validations():
            raise ValueError(
                f"pruner must be null for {self.all_objectives[0].label}, which is not known before the end of a run"
            )

    @property
    def search_space(self) -> Space:
        """Its search space."""
        return Space(self.space)

    @property
    def all_objectives(self) -> list[Objective]:
        """Its objectives."""
        return objectives_of(self.objectives)
