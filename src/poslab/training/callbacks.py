"""Callbacks of a run: the choices of `callbacks=`, and the records of its starting point and its encoding."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import lightning as L
import torch
from lightning.pytorch import callbacks
from lightning.pytorch.callbacks import DeviceStatsMonitor, WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.distributed.tensor import DTensor

from poslab.arguments import CheckedArguments, Count, Range
from poslab.data.tokenizers import Tokenizer
from poslab.encodings import Positions, StackEncodings
from poslab.evaluation.grids import Grid
from poslab.evaluation.scores.tokens import evaluating
from poslab.generation.streaming import generate
from poslab.generation.token_choice import Sampling
from poslab.models import Model
from poslab.runs.checkpoint import ENCODING_CURVES
from poslab.runs.directory import write_with_checksum
from poslab.tasks.task import Search, Task, device_of
from poslab.training.learner import Learner, hash_of
from poslab.training.loggers import RunTensorBoard


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


class DeviceStats(CheckedArguments, DeviceStatsMonitor):
    """Lightning's callback: memory of a GPU, or load and memory of processors, for every logger.

    Args:
        cpu_stats: True records processors too, next to a GPU; null records them where there is no GPU. It takes the
            package psutil.
    """

    def __init__(self, cpu_stats: bool | None = None) -> None:
        super().__init__(cpu_stats)


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


class Samples(CheckedArguments, L.Callback):
    """The continuations of prompts, or the answers to them, before the first step and after every validation.

    A language model continues a prompt greedily; a model of another task answers it as `python -m src.generate` does.
    TensorBoard shows them in its tab TEXT.

    Args:
        prompts: texts, each an input of the task; at least one.
        max_new_tokens: most tokens that are written for each.
    """

    def __init__(self, prompts: list[str], max_new_tokens: Count = 100) -> None:
        if not prompts:
            raise ValueError("prompts must hold at least one text")
        self.prompts = prompts
        self.search = Search(max_new_tokens=max_new_tokens)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the first samples.

        Raises:
            ValueError: for a run whose model cannot write, or a prompt that it cannot read.
        """
        assert isinstance(pl_module, Learner)
        task = pl_module.task
        if not task.predicts_next_tokens and type(task).predict is Task.predict:
            raise ValueError(
                f"callbacks.samples needs a task that writes or answers, which {type(task).__name__} is not"
            )
        if not any(isinstance(logger, RunTensorBoard) for logger in trainer.loggers):
            raise ValueError("callbacks.samples needs TensorBoard: logger=[tensorboard,csv]")
        if isinstance(trainer.strategy, ModelParallelStrategy):
            raise ValueError(
                "callbacks.samples needs the whole model on a device: trainer.strategy must be ddp, not fsdp"
            )
        self._write(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._write(trainer, pl_module)

    @rank_zero_only
    def _write(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        tokenizer: Tokenizer = trainer.datamodule.tokenizer  # type: ignore[attr-defined]
        (board, *_) = (logger for logger in trainer.loggers if isinstance(logger, RunTensorBoard))
        model, task = pl_module.model, pl_module.task
        for number, prompt in enumerate(self.prompts):
            try:
                with evaluating(model):
                    if task.predicts_next_tokens:
                        text = prompt + self._continuation(model, tokenizer, prompt)
                    else:
                        text = task.predict(model, prompt, self.search).text
            except ValueError as error:
                raise ValueError(f"callbacks.samples.prompts[{number}]: {error}") from error
            indented = "\n".join(f"    {line}" for line in text.split("\n"))  # as code, so that no sign is Markdown
            board.experiment.add_text(f"samples/{number}: {prompt}", indented, trainer.global_step)

    def _continuation(self, model: Model, tokenizer: Tokenizer, prompt: str) -> str:
        tokens = tokenizer.encode(prompt).tolist() or [tokenizer.end_id]
        read = torch.tensor([tokens], device=device_of(model))
        most, greedy = self.search.max_new_tokens, Sampling(temperature=0)
        return tokenizer.decode([int(token) for token in generate(model, read, most, greedy, end_id=tokenizer.end_id)])


SHARE = 0.01
"""Largest share of the training time for plots."""

FIRST_COST = 0.4
"""Estimated seconds of the first plot, in addition to `COST_OF_A_PANEL` for each encoding in it."""

COST_OF_A_PANEL = 0.2


class EncodingCurves(L.Callback):
    """A callback that writes an encoding's numbers as curves over steps, and its bias over distance as a plot.

    It keeps the initial state of the encoding, which every checkpoint of the run then holds (`encoding_start`).

    Parameters with at most one number for each head (slopes, rates, temperatures) are written at every validation; the
    plot of the bias, next to its initial state, only if all writing takes less than 1 % of the training time so far.
    Encodings without parameters and models that are sharded among processes (FSDP) are left out. The plot reaches
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
        from poslab.evaluation.learned_bias import (
            MAX_POINTS,
            bias_by_offset,
            bias_maps,
            bias_plot,
            learned_bias,
            num_learned_biases,
        )
        from poslab.evaluation.learned_parameters import learned_parameters

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
            bias = learned_bias(encodings, length, start, MAX_POINTS, on_axes)
            if len(bias):
                board.experiment.add_figure("encoding/bias", bias_plot(bias, self.training_length).figure, step)
            if self._grid is not None and on_axes:
                bias = bias_by_offset(encodings, self._grid.sizes, self._grid.axes)
                for plot in bias_maps(bias, self._grid.axes) if len(bias) else ():
                    board.experiment.add_figure("encoding/bias_by_offset", plot.figure, step)
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
