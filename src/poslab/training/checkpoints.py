"""Writing checkpoints so that a kill at any moment leaves a whole one, and reading them without running their code."""

from __future__ import annotations

import math
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from poslab.training.interruption import Interrupted, StopOnSignals
from poslab.training.learner import Learner


class RunCheckpoints(Checkpoint):
    """Keeps the last and the best state of a run, and ends it when it is asked to stop.

    Both are written after each validation, `best` first: whatever is lost by a kill between the two is found again
    by the run that resumes from `last`.

    Args:
        directory: where `best.ckpt` and `last.ckpt` are kept.
        signals: what asks a run to stop.
    """

    def __init__(self, directory: Path, signals: StopOnSignals) -> None:
        self.signals = signals
        self.best = directory / "best.ckpt"
        self.last = directory / "last.ckpt"
        self.best_step = 0
        self.best_figures: dict[str, float] = {}
        """The validation figures of the best state, by tag."""

    def state_dict(self) -> dict[str, Any]:
        return {"best_step": self.best_step, "best_figures": self.best_figures}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_step, self.best_figures = state_dict["best_step"], state_dict["best_figures"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        if trainer.state.fn != "fit":
            return
        figures = {tag: value for tag, value in pl_module.figures.items() if tag.startswith("validation/")}
        if figures["validation/loss"] < self.best_figures.get("validation/loss", math.inf):
            self.best_step, self.best_figures = trainer.global_step, figures
            trainer.save_checkpoint(self.best)
        trainer.save_checkpoint(self.last)
        if pl_module.stopping:
            raise Interrupted(self.signals.received or signal.SIGTERM)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Learner)
        if (batch_idx + 1) % trainer.accumulate_grad_batches or not pl_module.stopping:
            return
        # A checkpoint of before a validation that is due would skip it when it is resumed.
        validation_is_due = (batch_idx + 1) % trainer.val_check_batch == 0 or trainer.global_step == trainer.max_steps
        if not validation_is_due:
            trainer.save_checkpoint(self.last)
            raise Interrupted(self.signals.received or signal.SIGTERM)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints of plain data, replaced as a whole: the old one stays until the new one is on the disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        save_atomically(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path))


def save_atomically(checkpoint: dict[str, Any], path: Path) -> None:
    """Puts a checkpoint in the place of `path` once it is on the disk.

    Raises:
        OSError: if it cannot be written, a full disk among other reasons; what was there before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    try:
        with temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
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
    if not isinstance(checkpoint, dict) or RunCheckpoints.__name__ not in checkpoint.get("callbacks", {}):
        raise ValueError(f"the checkpoint {path} was not written by Poslab")
    return checkpoint


def model_weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights of the learner's model, by the names that the model itself gives them."""
    prefix = "model."
    return {name.removeprefix(prefix): w for name, w in checkpoint["state_dict"].items() if name.startswith(prefix)}
