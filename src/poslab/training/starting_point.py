"""The starting point of a run: hashes of its first batch and of its first weights, by which runs prove to be pairs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor
from torch.distributed.tensor import DTensor

from poslab.runs.directory import write_with_checksum
from poslab.training.hashes import hash_of
from poslab.training.learner import Learner


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
