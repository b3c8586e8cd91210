"""A run directory holds all of a run: what was asked for, where it ran, its figures, checkpoints and logs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException


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
        """The configuration that the run was started with.

        Raises:
            ValueError: if the file holds something else.
        """
        try:
            config = OmegaConf.to_container(OmegaConf.load(self.config_file))
        except (yaml.YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError):
            config = None
        if not isinstance(config, dict):
            raise ValueError(f"{self.config_file} is not the configuration of a run")
        return {str(key): value for key, value in config.items()}

    def metrics(self) -> dict[str, float]:
        """The final figures of a finished run."""
        metrics: dict[str, float] = json.loads(self.metrics_file.read_text())
        return metrics

    def start(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Writes down what the run is, before it begins.

        Raises:
            ValueError: if the directory cannot be written.
        """
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            for leftover in self.checkpoints.glob(".*.writing"):  # of a run that was killed while it saved
                leftover.unlink()
            write_atomically(self.config_file, OmegaConf.to_yaml(OmegaConf.create(dict(config))))
            write_atomically(self.path / "environment.json", json.dumps(environment, indent=2) + "\n")
        except OSError as error:
            raise ValueError(f"hydra.run.dir={self.path} cannot be written: {error.strerror}") from error

    def discard(self) -> None:
        """Takes back what `start` wrote, and the log, of a run that turned out to be a mistake before it trained."""
        for file in (self.config_file, self.path / "environment.json", self.log_file):
            file.unlink(missing_ok=True)
        for directory in (self.checkpoints, self.path):
            with contextlib.suppress(OSError):  # something else is in there
                directory.rmdir()

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Writes down the final figures; from then on the run is finished."""
        write_atomically(self.metrics_file, json.dumps(metrics, indent=2) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file that is whole or not there."""
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(text)
    temporary.replace(path)
