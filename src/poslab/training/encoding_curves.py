"""What an encoding learns, in TensorBoard while it learns it."""

from __future__ import annotations

import copy
import time

import lightning as L
from lightning.pytorch.utilities import rank_zero_only
from torch.distributed.tensor import DTensor

from poslab.encodings import StackEncodings
from poslab.training.learner import Learner
from poslab.training.loggers import RunTensorBoard

SHARE = 0.01
"""Of the training time, which pictures may take at most."""

FIRST_COST = 0.5
"""Seconds that a picture is thought to take before one has been drawn."""


class EncodingCurves(L.Callback):
    """At validations, the numbers of a trained encoding as curves over steps, and its bias over distance as a picture.

    Numbers (slopes, rates, thresholds, temperatures) are written at every validation, the picture of the bias, with its
    start, whenever pictures have taken less than 1 % of the training time so far. Nothing is written of an encoding
    without parameters, nor of a model whose parts are shared out among processes (FSDP).

    Args:
        training_length: tokens of a training window; the picture goes twice as far.
    """

    def __init__(self, training_length: int) -> None:
        self.training_length = training_length
        self.spent = 0.0
        self._cost = FIRST_COST
        self._start: StackEncodings | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        encodings = _encodings(pl_module)
        parameters = list(encodings.parameters())
        if parameters and not any(isinstance(parameter, DTensor) for parameter in parameters):
            self._start = copy.deepcopy(encodings)

    @rank_zero_only
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        board = next((logger for logger in trainer.loggers if isinstance(logger, RunTensorBoard)), None)
        if self._start is None or board is None:
            return
        began = time.perf_counter()
        from poslab.evaluation.learned_curves import bias_picture, learned_bias
        from poslab.evaluation.learned_parameters import learned_parameters

        encodings, step = _encodings(pl_module), trainer.global_step
        for row in learned_parameters(encodings).to_dict("records"):
            tag = f"encoding/{row['parameter']}/{row['layers']} {row['place']}"
            board.experiment.add_scalar(tag, row["learned"], step)
        told = time.perf_counter()
        if self.spent + (told - began) + self._cost <= SHARE * pl_module.training_seconds:
            bias = learned_bias(encodings, encodings.max_length or 2 * self.training_length, self._start)
            if len(bias):
                picture = bias_picture(bias, self.training_length)
                board.experiment.add_figure("encoding/bias", picture.figure, step)
            self._cost = time.perf_counter() - told
        self.spent += time.perf_counter() - began


def _encodings(pl_module: L.LightningModule) -> StackEncodings:
    encodings = pl_module.get_submodule("model.encodings")
    assert isinstance(encodings, StackEncodings)
    return encodings
