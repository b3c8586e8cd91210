"""A sweep: one question, as a file in sweeps/ asks it and the command line changes it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from poslab.configuration import nearest
from poslab.tuning.objective import Objective, objectives_of
from poslab.tuning.space import Space

OF_FILES = ("question", "train", "space", "objectives", "n_trials", "seeds", "sampler", "pruner", "presets")
"""Keys of a sweep file."""


@dataclass(frozen=True)
class Sweep:
    """Everything that a sweep is; plain data alone, so that it can be sent to workers and kept with a study.

    Args:
        name: of the study, and of its directory.
        question: one sentence.
        train: choices of every trial, by key, as `python -m src.train` takes them.
        space: what is searched, as `Space` takes it.
        objectives: what is made small or large, as `Objective.of` takes each.
        n_trials: trials that are finished when the sweep is, the default configuration among them.
        sampler: `_target_` and arguments of an Optuna sampler.
        pruner: `_target_` and arguments of an Optuna pruner; None prunes nothing.
        seeds: runs of each trial, from the configuration's seed on; with several the value is their mean.
        overrides: choices of every trial as they were typed; they count more than `train`.
        workers: processes on this machine that train, each with its share of cores, or a GPU of its own.
        storage: where the study is kept: a database URL, `journal:FILE` or `grpc://HOST:PORT`. None: a file of SQLite
            in the directory.
        output: the directory.
        hang_after: seconds without anything new in a run's directory after which its worker is ended.
        lost_after: seconds of silence after which a trial of another machine counts as lost.
    """

    name: str
    question: str
    train: Mapping[str, Any]
    space: Mapping[str, Any]
    objectives: Sequence[Any]
    n_trials: int
    sampler: Mapping[str, Any]
    pruner: Mapping[str, Any] | None
    output: str
    seeds: int = 1
    overrides: Sequence[str] = field(default_factory=list)
    workers: int = 1
    storage: str | None = None
    hang_after: int = 1800
    lost_after: int = 60

    def __post_init__(self) -> None:
        for name in ("n_trials", "seeds", "workers", "hang_after", "lost_after"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        if not isinstance(self.question, str) or not self.question:
            raise ValueError("question must be a sentence")
        if not re.fullmatch(r"[\w.-]+", str(self.name)):
            raise ValueError(f"name must be letters, digits, dots, - and _, got {self.name!r}")
        if self.storage is not None and not isinstance(self.storage, str):
            raise ValueError(f"storage must be a URL, journal:FILE, grpc://HOST:PORT or null, got {self.storage!r}")
        if not isinstance(self.train, Mapping):
            raise ValueError("train must be choices by key, as in {encoding: rotary}")
        _ = self.search_space
        if len(self.all_objectives) > 1 and self.pruner is not None:
            raise ValueError("pruner must be null where there are several objectives: trials cannot be compared early")
        if self.pruner is not None and not self.all_objectives[0].is_known_at_validations():
            raise ValueError(
                f"pruner must be null for {self.all_objectives[0].label}, which is not known before the end of a run"
            )

    @property
    def search_space(self) -> Space:
        """The space."""
        return Space(self.space)

    @property
    def all_objectives(self) -> list[Objective]:
        """The objectives."""
        return objectives_of(list(self.objectives))

    def as_plain_data(self) -> dict[str, Any]:
        """Its arguments, for JSON."""
        return asdict(self)


def read_sweep(folder: Path, given: Mapping[str, Any], overrides: Sequence[str]) -> Sweep:
    """The sweep that the command line asks for.

    Args:
        folder: of the sweep files.
        given: keys of the command line that speak of the sweep: `sweep` (a name in the folder, or the path of a file),
            `preset`, and arguments of `Sweep` that take the place of the file's.
        overrides: choices of every trial, as they were typed.

    Raises:
        ValueError: if there is no such sweep, preset or key, or one has a value that it cannot have.
    """
    given = dict(given)
    if "sweep" not in given:
        raise ValueError(f"sweep must name one of {', '.join(names(folder))}, or the path of a file like them")
    path = _file(folder, given.pop("sweep"))
    node = _contents(path)
    presets, preset = node.pop("presets", None) or {}, given.pop("preset", None)
    name = path.stem
    if preset is not None:
        if preset not in presets:
            raise ValueError(f"preset={preset}: {path.name} has {_listed(presets)}{nearest(str(preset), presets)}")
        chosen = presets[preset]
        node = {**node, **chosen, "train": {**(node.get("train") or {}), **(chosen.get("train") or {})}}
        name = f"{name}_{preset}"
    allowed = [argument.name for argument in fields(Sweep) if argument.name not in ("overrides", "question")]
    if unknown := sorted(set(given) - set(allowed)):
        raise ValueError(f"{unknown[0]}: there is no such key{nearest(unknown[0], ['sweep', 'preset', *allowed])}")
    node = {"name": name, "train": {}, **node, **given, "overrides": list(overrides)}
    node.setdefault("output", f"outputs/sweeps/{node['name']}")
    if missing := [a for a in ("question", "space", "objectives", "n_trials", "sampler", "pruner") if a not in node]:
        raise ValueError(f"{path} must say {missing[0]}")
    try:
        return Sweep(**node)
    except ValueError as error:
        raise ValueError(f"{error} (sweep={name})") from error


def names(folder: Path) -> list[str]:
    """The sweeps of a folder."""
    return sorted(file.stem for file in folder.glob("*.yaml"))


def _file(folder: Path, sweep: Any) -> Path:
    path = Path(str(sweep))
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ValueError(f"sweep={sweep}: there is no such file")
        return path
    if sweep not in names(folder):
        there_are = names(folder)
        raise ValueError(
            f"sweep={sweep}: there is no such sweep{nearest(str(sweep), there_are)} (sweeps: {', '.join(there_are)})"
        )
    return folder / f"{sweep}.yaml"


def _contents(path: Path) -> dict[str, Any]:
    import yaml

    try:
        node = OmegaConf.to_container(OmegaConf.load(path))  # its YAML reads 1e-3 as a number
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(node, dict):
        raise ValueError(f"{path} must hold keys and values")
    contents = {str(key): value for key, value in node.items()}
    if unknown := [key for key in contents if key not in OF_FILES]:
        raise ValueError(f"{path}: there is no key {unknown[0]}{nearest(unknown[0], OF_FILES)}")
    return contents


def _listed(presets: Mapping[str, Any]) -> str:
    return f"the presets {', '.join(presets)}" if presets else "no presets"
