"""Writing checkpoints so that a kill at any moment leaves a whole one, and reading them without running their code."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from poslab.training.learner import Learner


class Interrupted(Exception):
    """Training stopped on request, after a checkpoint was written."""


class RunCheckpoints(Checkpoint):
    """Keeps the last and the best state of a run, and ends it when it is asked to stop.

    Both are written after each validation, `best` first: whatever is lost by a kill between the two is found again
    by the run that resumes from `last`.

    Args:
        directory: where `best.ckpt` and `last.ckpt` are kept.
    """

    def __init__(self, directory: Path) -> None:
        self.best = directory / "best.ckpt"
        self.last = directory / "last.ckpt"
        self.best_loss = math.inf

    def state_dict(self) -> dict[str, float]:
        return {"best_loss": self.best_loss}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.best_loss = state_dict["best_loss"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        if trainer.state.fn != "fit":
            return
        loss = pl_module.figures["validation/loss"]
        if loss < self.best_loss:
            self.best_loss = loss
            trainer.save_checkpoint(self.best)
        trainer.save_checkpoint(self.last)
        if pl_module.stopping:
            raise Interrupted

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Learner)
        if (batch_idx + 1) % trainer.accumulate_grad_batches or not pl_module.stopping:
            return
        # A checkpoint of before a validation that is due would skip it when it is resumed.
        if (batch_idx + 1) % trainer.val_check_batch and not trainer.should_stop:
            trainer.save_checkpoint(self.last)
            raise Interrupted


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints of plain data, replaced as a whole: the old one stays until the new one is on the disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        write_atomically(Path(path), lambda temporary: torch.save(checkpoint, temporary))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path))


def write_atomically(path: Path, write: Any) -> None:
    """Calls `write(temporary)` on a file beside `path`, and puts it in the place of `path` once it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint of this project, on the CPU.

    Raises:
        ValueError: if it is missing, damaged, not of this project, or holds anything but plain data.
    """
    if not path.is_file():
        raise ValueError(f"there is no checkpoint {path}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"the checkpoint {path} is damaged, or holds code, which is never run") from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"the checkpoint {path} is damaged: it cannot be read") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint or RunCheckpoints.__name__ not in str(
        list(checkpoint.get("callbacks", {}))
    ):
        raise ValueError(f"the checkpoint {path} was not written by Poslab")
    return checkpoint
