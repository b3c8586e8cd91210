"""Loggers of other services: Weights & Biases, MLflow and Aim, which get what TensorBoard gets.

A service keeps a run under an id of its own. It is written into the run directory, so that a run that resumes continues
there. Metrics that an interrupted run recorded after its last checkpoint are there twice.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from poslab.configuration.command_line import pip_install
from poslab.io.files import locked_folder
from poslab.training.loggers import RunLogger, columns

_ID = re.compile("[A-Za-z0-9_-]{1,128}")


class Tracker(RunLogger):
    """A logger of a service that keeps runs under ids of its own.

    Args:
        directory: the run directory.
        first_step: step that the run resumes after, which is not read.
    """

    service: str
    """Name of the package, and of the file with the id: `SERVICE_id`."""

    def __init__(self, directory: Path, first_step: int | None) -> None:
        self.directory = directory.absolute()

    @property
    def id_file(self) -> Path:
        """File with the id of the run in the service."""
        return self.directory / f"{self.service}_id"

    @property
    def earlier_id(self) -> str | None:
        """Id of a run that resumes; None for a new one.

        Raises:
            ValueError: naming the file, if it does not hold an id.
        """
        if not self.id_file.is_file():
            return None
        with self.id_file.open("rb") as file:
            text = file.read(129).decode("ascii", "replace").strip()
        if not _ID.fullmatch(text):
            raise ValueError(f"{self.id_file} is damaged: it is not the id of a run")
        return text

    @abstractmethod
    def begun(self, config: Mapping[str, Any]) -> str:
        """Begin or continue the run in the service with the choices of a run by dotted key, and return its id."""

    def begin(self, config: Mapping[str, Any], metrics: list[str]) -> None:
        with _in_a_sentence(self.service):
            identity = self.begun(columns(config))
        self.id_file.write_text(identity + "\n")


class WeightsAndBiases(Tracker, Logger):
    """Weights & Biases, by its own client. Its files are in the folder `wandb` beside the run.

    Account and mode are those of its own environment variables, such as `WANDB_MODE=offline`.

    Args:
        project: project of the run.
    """

    service = "wandb"
    name = None
    version = None

    def __init__(self, directory: Path, first_step: int | None, project: str = "poslab") -> None:
        _require("wandb")
        Logger.__init__(self)
        Tracker.__init__(self, directory, first_step)
        self.project = project
        self.run: Any = None

    def begun(self, config: Mapping[str, Any]) -> str:
        import wandb

        self.run = wandb.init(
            project=self.project,
            name=self.directory.name,
            dir=self.directory.parent,
            id=self.earlier_id,
            resume="allow",
            config=dict(config),
            settings=wandb.Settings(silent=True, console="off", save_code=False),
        )
        # Its own count of records never goes back, and a resumed run does.
        self.run.define_metric("*", step_metric="step")
        identity: str = self.run.id
        return identity

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.run.log({**metrics, "step": step})

    def log_hyperparams(self, *arguments: Any, **keywords: Any) -> None:
        """Do nothing: `begin` has recorded them."""

    def finish(self, metrics: Mapping[str, float]) -> None:
        self.run.finish()


class MLflow(Tracker, MLFlowLogger):
    """MLflow, by Lightning's logger. `loss@512` is `loss_at_512` there, since it allows no `@` in a name.

    The server is that of `MLFLOW_TRACKING_URI`; without it, runs are in the database `mlflow.db` beside the run:
    `mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db` shows them.

    Args:
        experiment: experiment of the run.
    """

    service = "mlflow"

    def __init__(self, directory: Path, first_step: int | None, experiment: str = "poslab") -> None:
        _require("mlflow")
        Tracker.__init__(self, directory, first_step)
        for name in ("mlflow", "lightning.pytorch.loggers.mlflow"):  # both log each table and experiment they make
            logging.getLogger(name).setLevel(logging.ERROR)
        # Processes that make a database at once, as those of a run or a sweep, would spoil it.
        with _in_a_sentence(self.service), locked_folder(self.directory.parent):
            MLFlowLogger.__init__(
                self,
                experiment,
                run_name=directory.name,
                tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{self.directory.parent / 'mlflow.db'}"),
                run_id=self.earlier_id,
            )

    def begun(self, config: Mapping[str, Any]) -> str:
        with locked_folder(self.directory.parent):  # for it makes the experiment
            identity = self.run_id
        assert identity is not None
        if self.id_file.exists():
            self.experiment.update_run(identity, status="RUNNING")
        else:
            self.log_hyperparams(dict(config))
        return identity

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        with _in_a_sentence(self.service):
            super().log_metrics({tag.replace("@", "_at_"): value for tag, value in metrics.items()}, step)

    def finish(self, metrics: Mapping[str, float]) -> None:
        with _in_a_sentence(self.service):
            assert self.run_id is not None
            self.experiment.set_terminated(self.run_id)

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Mark the run as failed; one that is still to be tested stays open."""
        with _in_a_sentence(self.service):
            if status == "failed" and self.run_id is not None:
                self.experiment.set_terminated(self.run_id, "FAILED")


class Aim(Tracker, Logger):
    """Aim, by its own client. Its repository is the folder `.aim` beside the run: `aim up --repo outputs` shows it.

    Args:
        experiment: experiment of the run.
    """

    service = "aim"
    name = None
    version = None

    def __init__(self, directory: Path, first_step: int | None, experiment: str = "poslab") -> None:
        _require("aim")
        Logger.__init__(self)
        Tracker.__init__(self, directory, first_step)
        self.experiment_name = experiment
        self.run: Any = None

    def begun(self, config: Mapping[str, Any]) -> str:
        from aim.sdk.run import Run

        self.run = Run(
            run_hash=self.earlier_id,
            repo=str(self.directory.parent),
            experiment=self.experiment_name,
            system_tracking_interval=None,
            log_system_params=False,
            capture_terminal_logs=False,
        )
        self.run.name = self.directory.name
        self.run["hparams"] = dict(config)
        identity: str = self.run.hash
        return identity

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        for tag, value in metrics.items():
            self.run.track(float(value), name=tag, step=step)

    def log_hyperparams(self, *arguments: Any, **keywords: Any) -> None:
        """Do nothing: `begin` has recorded them."""

    def finish(self, metrics: Mapping[str, float]) -> None:
        self.run.close()


@contextmanager
def _in_a_sentence(service: str) -> Iterator[None]:
    """Turn what a client raises, such as without an account or a server, into a ValueError of one line."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:  # clients have classes of their own, which share no base
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"logger={service}: {first}") from error


def _require(package: str) -> None:
    try:
        __import__(package)
    except ImportError as error:
        install = "pip install aim" if package == "aim" else pip_install("loggers")
        raise ValueError(f"logger={package} needs a package that is not installed: {install}") from error
