"""Records of a run: TensorBoard and a CSV file, both of which survive a resume, its encoding and its starting point."""

from __future__ import annotations

import contextlib
import csv
import re
import threading
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils.tensorboard.summary import hparams

from poslab.configuration.command_line import pip_install
from poslab.configuration.labels import choices_of
from poslab.encodings import StackEncodings
from poslab.runs.checkpoint import ENCODING_CURVES
from poslab.runs.directory import write_with_checksum
from poslab.training.learner import Learner, hash_of

_STEP = re.compile("[0-9]{1,18}")


class RunLogger(Logger):
    """A logger whose metrics are kept with the run, in its directory, and survive a resume.

    Metrics that an interrupted run recorded past `first_step`, after which it resumes, are dropped; None drops nothing.
    """

    @abstractmethod
    def __init__(self, directory: Path, first_step: int | None) -> None: ...

    @abstractmethod
    def begin(self, config: Mapping[str, Any]) -> None:
        """Begin recording a run of this configuration, only in the first process."""

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Record the final metrics by tag, and close."""


class RunTensorBoard(RunLogger, TensorBoardLogger):
    """TensorBoard events in the run directory itself, so that TensorBoard names the run after it."""

    def __init__(self, directory: Path, first_step: int | None) -> None:
        self.first_step = first_step
        directory = directory.absolute()
        before = sorted(directory.glob("events.out.*"))
        if before and before[-1].name.startswith(f"events.out.tfevents.{int(time.time())}."):
            time.sleep(1)  # TensorBoard reads files in the order of their names, which start with a second
        threading.excepthook = _silent_where_reported
        TensorBoardLogger.__init__(
            self,
            directory.parent,
            name="",
            version=directory.name,
            default_hp_metric=False,
            purge_step=None if first_step is None or not before else first_step + 1,
        )

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write metrics through to the disk, so that a kill loses none that a checkpoint comes after."""
        super().log_metrics(dict(metrics), step)
        self.experiment.flush()

    def begin(self, config: Mapping[str, Any]) -> None:
        """Record the configuration as text and as hyperparameters."""
        if self.first_step:
            return  # the interrupted run recorded them
        self.experiment.add_text("config", f"```yaml\n{OmegaConf.to_yaml(OmegaConf.create(dict(config)))}```")
        # Without the summary of an experiment, the HPARAMS tab takes its columns from all runs, and its metrics from
        # their curves.
        _, *session = hparams(columns(config), {})
        for summary in session:
            self.experiment._get_file_writer().add_summary(summary)

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Record test metrics as curves over length instead of steps, and close the file."""
        for tag, value in metrics.items():
            name, at, length = tag.partition("@")
            if at and name.startswith("test/"):
                self.experiment.add_scalar(f"by_length/{name}", value, int(length))
        self.experiment.close()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Keep the file open: Lightning calls this after training and again after testing."""
        self.experiment.flush()

    @rank_zero_only
    def save(self) -> None:
        """Do nothing: metrics are on the disk already, and the choices in config.yaml."""


class MetricsCsv(RunLogger):
    """`metrics.csv`: one line a metric, `step,tag,value`, appended as it comes."""

    name = None
    version = None

    def __init__(self, directory: Path, first_step: int | None) -> None:
        Logger.__init__(self)
        self.file = directory / "metrics.csv"
        self.first_step = first_step or 0

    def begin(self, config: Mapping[str, Any]) -> None:
        """Make the file, or cut off what will be recorded again; ValueError, naming the file, if it is not CSV."""
        kept = []
        if self.first_step and self.file.exists():
            try:
                with self.file.open(newline="", encoding="utf-8") as file:
                    kept = [row for row in csv.reader(file) if len(row) == 3 and _STEP.fullmatch(row[0])]
            except (UnicodeDecodeError, csv.Error) as error:
                raise ValueError(f"{self.file} is damaged: it is not CSV in UTF-8") from error
        with self.file.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["step", "tag", "value"])
            rows.writerows(row for row in kept if int(row[0]) <= self.first_step and not row[1].startswith("test/"))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        with self.file.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([step, tag, value] for tag, value in metrics.items())

    def log_hyperparams(self, *arguments: Any, **keywords: Any) -> None:
        """Do nothing: they are in config.yaml."""


def _silent_where_reported(failure: threading.ExceptHookArgs) -> None:
    """Ignore that TensorBoard's own thread cannot write: the next metric raises that error where it counts."""
    if not (isinstance(failure.thread, _AsyncWriterThread) and isinstance(failure.exc_value, OSError)):
        threading.__excepthook__(failure)


def columns(config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Return the choices of a run by dotted key, numbers as numbers, and groups by the names that people type."""
    return {**dict(flat(config)), **{group: choice.name for group, choice in choices_of(config).items()}}


def flat(config: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    """Yield dotted keys and values that TensorBoard can show, which null is not; a node itself is its class."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif key == "_target_":
            yield prefix.removesuffix("."), str(value).rpartition(".")[2]
        elif value is not None and not str(key).startswith("_"):
            yield f"{prefix}{key}", value if isinstance(value, bool | int | float) else str(value)


class EncodingCurves(L.Callback):
    """A callback that writes an encoding's numbers as curves over steps.

    It keeps the initial state of the encoding, which every checkpoint of the run then contains (`encoding_start`).

    Parameters with at most one number for each head (slopes, rates, temperatures) are written at every validation.
    Encodings without parameters and models that are sharded among processes (FSDP) are left out.
    """

    def __init__(self) -> None:
        self._start: dict[str, Tensor] = {}

    @property
    def state_key(self) -> str:
        return ENCODING_CURVES

    def state_dict(self) -> dict[str, Any]:
        return {"start": self._start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._start = state_dict["start"]

    @rank_zero_only
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        encodings = _encodings(pl_module)
        if not self._start and _are_whole(encodings):
            self._start = {name: x.detach().cpu().clone() for name, x in encodings.state_dict().items()}

    @rank_zero_only
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        encodings = _encodings(pl_module)
        board = next((logger for logger in trainer.loggers if isinstance(logger, RunTensorBoard)), None)
        if board is None or not _are_whole(encodings):
            return
        from poslab.evaluation.learned_bias import learned_parameters

        for row in learned_parameters(encodings, most=encodings.shape.num_heads).to_dict("records"):
            tag = f"encoding/{row['parameter']}/{row['layers']} {row['index']}".rstrip()
            board.experiment.add_scalar(tag, row["learned"], trainer.global_step)


def _encodings(pl_module: L.LightningModule) -> StackEncodings:
    assert isinstance(pl_module, Learner)
    encodings = pl_module.model.encodings
    assert isinstance(encodings, StackEncodings)
    return encodings


def _are_whole(encodings: StackEncodings) -> bool:
    """Return whether encodings have parameters, and this process has all of each."""
    parameters = list(encodings.parameters())
    return bool(parameters) and not any(isinstance(parameter, DTensor) for parameter in parameters)


class RecordStartingPoint(L.Callback):
    """A callback that writes the hashes of the first batch, and of the weights outside encodings, before step 1,
    with the version of the split of the data.

    Weights that are shared out among processes are not hashed. A run of zero steps has the hash of no batch.
    """

    def __init__(self, file: Path, split_version: int = 1) -> None:
        self.file = file
        self.split_version = split_version

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not batch_idx:
            self._write(trainer, pl_module, batch)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.max_steps == 0:
            self._write(trainer, pl_module, ())

    def _write(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Iterable[Any]) -> None:
        assert isinstance(pl_module, Learner)
        if not trainer.is_global_zero:
            return
        weights = {
            name: weight
            for name, weight in sorted(pl_module.model.named_parameters())
            if not any("encodings" in part for part in name.split("."))
        }
        is_whole = not any(isinstance(weight, DTensor) for weight in weights.values())
        hashes = {
            "batch": hash_of(part for part in batch if isinstance(part, Tensor)),
            "weights": hash_of(weights.values()) if is_whole else None,
            "split": str(self.split_version),
        }
        write_with_checksum(self.file, hashes)


@contextlib.contextmanager
def client_errors(logger: str) -> Iterator[None]:
    """Turn what a client of a service raises into a ValueError of one line."""
    try:
        yield
    except ImportError as error:
        install = pip_install("loggers")
        raise ValueError(f"logger {logger} needs a package that is not installed: {install} ({error})") from error
    except (ValueError, OSError):
        raise
    except Exception as error:  # clients have their own classes, which share no base
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"logger {logger}: {first}") from error
