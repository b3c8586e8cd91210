"""End training when a validation metric no longer improves."""

from __future__ import annotations

from typing import Annotated, Literal

import lightning as L
from lightning.pytorch import callbacks

from poslab.arguments import Count, Range


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's callback, in a run that may be interrupted.

    Args:
        monitor: tag of a metric of validations, such as `validation/loss`.
        mode: `min` where lower is better, `max` where higher is.
        patience: validations without improvement before training ends; at least 1.
        min_delta: smallest change that counts as an improvement; at least 0.
    """

    def __init__(
        self,
        monitor: str,
        mode: Literal["min", "max"] = "min",
        patience: Count = 3,
        min_delta: Annotated[float, Range(at_least=0)] = 0.0,
    ) -> None:
        super().__init__(monitor, mode=mode, patience=patience, min_delta=min_delta, check_on_train_epoch_end=False)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End at once a resumed run that had ended training and was interrupted before its test."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True
