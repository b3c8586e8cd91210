"""Checkpoints of a run: its last and its best state."""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from poslab.runs.checkpoint import CONFIG, OWN_STATE, load_checkpoint, save_atomically
from poslab.runs.errors import RunInterruptedError
from poslab.training.interruption import StopOnSignals
from poslab.training.learner import Learner


class RunCheckpoints(Checkpoint):
    """A callback that saves the last and the best state of a run, and ends the run after a request to stop.

    After a validation both are written, `best.ckpt` first: a run that resumes from `last.ckpt` makes again what a kill
    between the two has lost. The last state is also saved every `save_every` steps. Both record `config`, the hashes of
    the run's configuration.
    """

    def __init__(
        self, directory: Path, save_every: int, signals: StopOnSignals, config: Mapping[str, str] | None = None
    ) -> None:
        self.config = None if config is None else dict(config)
        self.save_every = save_every
        self.signals = signals
        self.best = directory / "best.ckpt"
        self.last = directory / "last.ckpt"
        self.best_step = 0
        self.best_metrics: dict[str, float] = {}
        """Validation metrics of the best state, by tag."""

    @property
    def state_key(self) -> str:
        return OWN_STATE

    def state_dict(self) -> dict[str, Any]:
        return {"best_step": self.best_step, "best_figures": self.best_metrics, CONFIG: self.config}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        step, metrics = state_dict.get("best_step"), state_dict.get("best_figures")
        if not isinstance(step, int) or not isinstance(metrics, dict):
            raise ValueError("resume: the checkpoint does not say which state is the best")
        self.best_step, self.best_metrics = step, metrics

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        if trainer.state.fn != "fit":
            return
        metrics = pl_module.validation_metrics
        metric = f"validation/{pl_module.task.chosen_by}"
        sign = 1 if metric == "validation/loss" else -1
        if sign * metrics[metric] < sign * self.best_metrics.get(metric, sign * math.inf):
            self.best_step, self.best_metrics = trainer.global_step, metrics
            trainer.save_checkpoint(self.best)
        trainer.save_checkpoint(self.last)
        if pl_module.stopping:
            raise RunInterruptedError(self.signals.received or signal.SIGTERM)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.max_steps == 0:  # no step ends that would save
            trainer.save_checkpoint(self.best)
            trainer.save_checkpoint(self.last)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Learner)
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        assert trainer.val_check_batch is not None
        if (batch_idx + 1) % trainer.val_check_batch == 0 or trainer.global_step == trainer.max_steps:
            return  # validate first: Lightning would skip the validation in a run that resumes from here
        if pl_module.stopping or trainer.global_step % self.save_every == 0:
            pl_module.require_finite()
            trainer.save_checkpoint(self.last)
        if pl_module.stopping:
            raise RunInterruptedError(self.signals.received or signal.SIGTERM)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints of plain data, replaced as a whole: the old one stays until the new one is on the disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        save_atomically(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path))
