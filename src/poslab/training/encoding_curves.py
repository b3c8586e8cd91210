"""Curves and pictures of a learning encoding in TensorBoard."""

from __future__ import annotations

import copy
import time
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.distributed.tensor import DTensor

from poslab.encodings import Positions, StackEncodings
from poslab.evaluation.grids import Grid
from poslab.runs.checkpoint import ENCODING_CURVES
from poslab.training.learner import Learner
from poslab.training.loggers import RunTensorBoard

SHARE = 0.01
"""Largest share of the training time for pictures."""

FIRST_COST = 0.4
"""Estimated seconds of the first picture, beside `COST_OF_A_PANEL` for each encoding in it."""

COST_OF_A_PANEL = 0.2


class EncodingCurves(L.Callback):
    """A callback that writes an encoding's numbers as curves over steps, and its bias over distance as a picture.

    It keeps the initial state of the encoding, which every checkpoint of the run then holds (`encoding_start`).

    Parameters with at most one number for each head (slopes, rates, temperatures) are written at every validation; the
    picture of the bias, beside its initial state, only if all writing takes less than 1 % of the training time so far.
    Encodings without parameters and models that are sharded among processes (FSDP) are left out. The picture reaches
    twice as far as the training length, in tokens; on several axes it has the offsets of the grid of the first example.
    """

    def __init__(self, training_length: int) -> None:
        self.training_length = training_length
        self.spent = 0.0
        self._cost: float | None = None
        self._grid: Grid | None = None
        self._start: dict[str, Tensor] = {}

    @property
    def state_key(self) -> str:
        return ENCODING_CURVES

    def state_dict(self) -> dict[str, Any]:
        return {"spent": self.spent, "start": self._start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.spent, self._start = state_dict["spent"], state_dict["start"]

    @rank_zero_only
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        encodings = _encodings(pl_module)
        if not self._start and _are_whole(encodings):
            self._start = {name: x.detach().cpu().clone() for name, x in encodings.state_dict().items()}

    @rank_zero_only
    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self._grid is None and isinstance(positions := getattr(batch, "positions", None), Positions):
            self._grid = Grid.of(positions)

    @rank_zero_only
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        encodings, step = _encodings(pl_module), trainer.global_step
        board = next((logger for logger in trainer.loggers if isinstance(logger, RunTensorBoard)), None)
        if board is None or not _are_whole(encodings):
            return
        began = time.perf_counter()
        from poslab.evaluation.encoding.bias_offsets import bias_by_offset, bias_maps
        from poslab.evaluation.encoding.curves import DRAWN, bias_plot, learned_bias, num_learned_biases
        from poslab.evaluation.encoding.parameters import learned_parameters

        for row in learned_parameters(encodings, most=encodings.shape.num_heads).to_dict("records"):
            tag = f"encoding/{row['parameter']}/{row['layers']} {row['place']}".rstrip()
            board.experiment.add_scalar(tag, row["learned"], step)
        written = time.perf_counter()
        panels = num_learned_biases(encodings)
        cost = self._cost or FIRST_COST + COST_OF_A_PANEL * panels
        if panels and self._start and self.spent + (written - began) + cost <= SHARE * pl_module.training_seconds:
            start = copy.deepcopy(encodings)
            start.load_state_dict(self._start)
            length = encodings.max_length or 2 * self.training_length
            on_axes = self._grid is not None and len(self._grid.sizes) > 1
            bias = learned_bias(encodings, length, start, DRAWN, on_axes)
            if len(bias):
                board.experiment.add_figure("encoding/bias", bias_plot(bias, self.training_length).figure, step)
            if self._grid is not None and on_axes:
                bias = bias_by_offset(encodings, self._grid.sizes, self._grid.axes)
                for picture in bias_maps(bias, self._grid.axes) if len(bias) else ():
                    board.experiment.add_figure("encoding/bias_by_offset", picture.figure, step)
            self._cost = time.perf_counter() - written
        self.spent += time.perf_counter() - began


def _encodings(pl_module: L.LightningModule) -> StackEncodings:
    assert isinstance(pl_module, Learner)
    encodings = pl_module.model.encodings
    assert isinstance(encodings, StackEncodings)
    return encodings


def _are_whole(encodings: StackEncodings) -> bool:
    """Return whether encodings have parameters, and this process has all of each."""
    parameters = list(encodings.parameters())
    return bool(parameters) and not any(isinstance(parameter, DTensor) for parameter in parameters)
