"""An exponential moving average of the weights, which is what is validated, tested and kept."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from poslab.arguments import CheckedArguments, Range


class WeightAverage(CheckedArguments, WeightAveraging):
    """Lightning's callback with an average in which the first weights soon count little.

    The average begins as the weights after the first step. After step t = 1, 2, ..., counted from 0, it moves by
    `1 - min(decay, (1 + t) / (10 + t))` of the way to the weights, as in TensorFlow's moving average with
    `num_updates`. Validations, the test and `state_dict` of checkpoints have the
    average; training continues from the weights themselves, which a checkpoint holds too.

    Args:
        decay: share of the average that a step leaves, in [0, 1), once the run is old enough.

    Source: Polyak, Juditsky, "Acceleration of stochastic approximation by averaging" (SIAM J. Control Optim. 1992).
    """

    def __init__(self, decay: Annotated[float, Range(at_least=0, below=1)] = 0.99) -> None:
        def move(averages: Sequence[Tensor], weights: Sequence[Tensor], num_averaged: Tensor | int) -> None:
            step = float(num_averaged)  # at least 1: the first step copies the weights without a call
            torch._foreach_lerp_(list(averages), list(weights), 1 - min(decay, (1 + step) / (10 + step)))

        super().__init__(use_buffers=False, multi_avg_fn=move)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Copy the weights.

        Raises:
            ValueError: where devices share one model, of which this callback would average only a part.
        """
        if isinstance(trainer.strategy, ModelParallelStrategy):
            raise ValueError(
                "callbacks=ema needs the whole model on each device: trainer.strategy must be ddp, not fsdp"
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You're using the WeightAveraging callback with a model")
            super().setup(trainer, pl_module, stage)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the weights and their average where training resumes; a test keeps the average."""
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
