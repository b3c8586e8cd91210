"""Lightning's loggers of Weights & Biases and MLflow, which continue the run of the service when a run resumes.

The id of the run in the service is written into the run directory. Metrics that an interrupted run recorded after its
last checkpoint are there twice.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from poslab.io.files import locked_folder
from poslab.training.loggers import RunLogger, client_errors, columns


class WeightsAndBiases(RunLogger, WandbLogger):
    """Weights & Biases. Its files are in the folder `wandb` next to the run directory; `first_step` is not read.

    Account and mode are set by its own environment variables, such as `WANDB_MODE=offline`.
    """

    def __init__(self, directory: Path, first_step: int | None, project: str = "poslab") -> None:
        self.id_file = directory.absolute() / "wandb_id"
        WandbLogger.__init__(
            self,
            name=directory.name,
            save_dir=directory.absolute().parent,
            id=_stored_id(self.id_file),
            project=project,
            settings={"silent": True, "console": "off", "save_code": False},
        )

    def begin(self, config: Mapping[str, Any]) -> None:
        self.experiment.config.update(columns(config), allow_val_change=True)
        self.id_file.write_text(f"{self.experiment.id}\n")

    def finish(self, metrics: Mapping[str, float]) -> None:
        self.experiment.finish()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End a run that failed, so that the next one of this process is another."""
        if status == "failed" and self._experiment is not None:
            self._experiment.finish()


class MLflow(RunLogger, MLFlowLogger):
    """MLflow; `first_step` is not read. `loss@512` is `loss_at_512` there, since it allows no `@` in a name.

    The server is set by `MLFLOW_TRACKING_URI`; without it, runs are in the database `mlflow.db` next to the run
    directory: `mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db` shows them.
    """

    def __init__(self, directory: Path, first_step: int | None, experiment: str = "poslab") -> None:
        self.id_file = directory.absolute() / "mlflow_id"
        self.folder = directory.absolute().parent
        for name in ("mlflow", "lightning.pytorch.loggers.mlflow"):  # both log each table and experiment they make
            logging.getLogger(name).setLevel(logging.ERROR)
        # Processes that make a database at once, as in a run or a sweep, would spoil it.
        with locked_folder(self.folder):
            MLFlowLogger.__init__(
                self,
                experiment,
                run_name=directory.name,
                tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{self.folder / 'mlflow.db'}"),
                run_id=_stored_id(self.id_file),
            )

    def begin(self, config: Mapping[str, Any]) -> None:
        with locked_folder(self.folder):  # for it makes the experiment
            identity = self.run_id
        if self.id_file.exists():
            self.experiment.update_run(identity, status="RUNNING")
        else:
            self.log_hyperparams(columns(config))
        self.id_file.write_text(f"{identity}\n")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        with client_errors("MLflow"):
            super().log_metrics({tag.replace("@", "_at_"): value for tag, value in metrics.items()}, step)

    def finish(self, metrics: Mapping[str, float]) -> None:
        with client_errors("MLflow"):
            super().finalize("success")

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Mark a run as failed. Another one stays open for its test, until `finish`."""
        if status == "failed":
            with client_errors("MLflow"):
                super().finalize(status)


def _stored_id(file: Path) -> str | None:
    """Return the id of a run that resumes; None for a new one; ValueError, naming the file, for anything else."""
    if not file.is_file():
        return None
    with file.open("rb") as opened:
        text = opened.read(129).decode("ascii", "replace").strip()
    if not re.fullmatch("[A-Za-z0-9_-]{1,128}", text):
        raise ValueError(f"{file} is damaged: it is not the id of a run")
    return text
