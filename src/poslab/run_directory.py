"""A run directory holds all of a run: what was asked for, where it ran, its figures, checkpoints and logs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


@dataclass(frozen=True)
class RunDirectory:
    """The files of a run.

    Args:
        path: the directory; it need not exist yet.
    """

    path: Path

    @classmethod
    def of(cls, run: str | Path) -> RunDirectory:
        """The run of a directory, or of a checkpoint inside one.

        Raises:
            ValueError: if there is no run there.
        """
        path = Path(run)
        if path.suffix == ".ckpt" and path.parent.name == "checkpoints":
            path = path.parent.parent
        found = cls(path)
        if not found.config_file.is_file():
            raise ValueError(f"{run} is not a run directory: it holds no config.yaml")
        return found

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        """The final figures, one flat object of tag to number; it exists once the run is finished."""
        return self.path / "metrics.json"

    @property
    def checkpoints(self) -> Path:
        """Where `last.ckpt` and `best.ckpt` are."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """The newest state, from which a run resumes."""
        return self.checkpoints / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        """The state with the lowest validation loss, which is tested."""
        return self.checkpoints / "best.ckpt"

    @property
    def log_file(self) -> Path:
        """Everything that the run printed."""
        return self.path / "train.log"

    @property
    def is_finished(self) -> bool:
        """Whether the run has come to its end."""
        return self.metrics_file.is_file()

    def config(self) -> dict[str, Any]:
        """The configuration that the run was started with."""
        config = OmegaConf.to_container(OmegaConf.load(self.config_file))
        assert isinstance(config, dict)
        return {str(key): value for key, value in config.items()}

    def metrics(self) -> dict[str, float]:
        """The final figures of a finished run."""
        metrics: dict[str, float] = json.loads(self.metrics_file.read_text())
        return metrics

    def start(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Writes down what the run is, before it begins.

        Raises:
            ValueError: if the directory cannot be written, or holds another run.
        """
        if self.config_file.exists() and self.config() != config:
            raise ValueError(f"hydra.run.dir={self.path} holds a run of another configuration: choose another directory")
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self.config_file.write_text(OmegaConf.to_yaml(OmegaConf.create(dict(config))))
            write_json(self.path / "environment.json", environment)
        except OSError as error:
            raise ValueError(f"hydra.run.dir={self.path} cannot be written: {error.strerror}") from error


def newest_unfinished(directory: Path, config: Mapping[str, Any]) -> RunDirectory | None:
    """The newest run below a directory that has this configuration and has not come to its end."""
    candidates = (RunDirectory(file.parent) for file in directory.glob("**/config.yaml"))
    unfinished = [run for run in candidates if not run.is_finished and _same(run, config)]
    return max(unfinished, key=lambda run: run.config_file.stat().st_mtime, default=None)


def differing_keys(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    """The dotted keys at which two configurations differ."""
    for key in dict.fromkeys([*one, *other]):
        a, b = one.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from differing_keys(a, b, f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key}"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file that is whole or not there."""
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


def _same(run: RunDirectory, config: Mapping[str, Any]) -> bool:
    return run.config() == config
