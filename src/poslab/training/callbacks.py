"""Callbacks that a run may have: the choices of `callbacks=`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal

import lightning as L
import psutil
import torch
from lightning.pytorch import callbacks
from lightning.pytorch.callbacks import DeviceStatsMonitor, WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from poslab.arguments import CheckedArguments, Count, Range
from poslab.data.tokenizers import Tokenizer
from poslab.evaluation.scores.tokens import evaluating
from poslab.generation.decoding import generate
from poslab.generation.token_choice import Sampling
from poslab.models import Model
from poslab.tasks.task import Search, Task, device_of
from poslab.training.learner import Learner
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
        cpu_stats: True records processors too, next to a GPU; null records them where there is no GPU.
    """

    def __init__(self, cpu_stats: bool | None = None) -> None:
        super().__init__(cpu_stats)


class WeightAverage(CheckedArguments, WeightAveraging):
    """Lightning's callback with an average in which the first weights soon count little.

    The average begins as the weights after the first step. After step t = 1, 2, ..., counted from 0, it moves by
    `1 - min(decay, (1 + t) / (10 + t))` of the way to the weights, as in TensorFlow's moving average with
    `num_updates`. Validations, the test and `state_dict` of checkpoints have the
    average; training continues from the weights themselves, which a checkpoint contains too.

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
        """Copy the weights; ValueError where devices share one model, of which this callback would average a part."""
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
            raise ValueError("prompts must contain at least one text")
        self.prompts = prompts
        self.search = Search(max_new_tokens=max_new_tokens)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the first samples; ValueError for a run whose model cannot write, or a prompt that it cannot read."""
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


INTERVAL_S = 2.0  # seconds over which the load of other programs is measured


def free_threads(others: float, cores: int, most: int) -> int:
    """Return how many threads have their own core while others are busy: from 1 to `most`."""
    return max(1, min(most, round(cores - others)))


class FreeCores(L.Callback):
    """Change the number of PyTorch's threads in training with the load of the machine, up to the number at its start.

    Threads wait for one another in every operation, and so for the one whose core another program has: on two cores
    with three busy programs, a small step of two threads took up to 100 times as long as without them, one of a single
    thread twice as long. Sums over threads depend on their number, so that a run is not the same bit for bit under
    another load, nor when it resumes.
    """

    def __init__(self) -> None:
        self._most, self._cores = torch.get_num_threads(), psutil.cpu_count() or 1
        self._measured_at: float | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure the load, unless the system does not tell, as in a container without /proc/stat."""
        with suppress(OSError, psutil.Error):
            self._process = psutil.Process()
            self._busy_others()

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Measure the load, unless that was a moment ago."""
        measured_at = self._measured_at
        if self._most > 1 and measured_at is not None and time.monotonic() - measured_at >= INTERVAL_S:
            torch.set_num_threads(free_threads(self._busy_others(), self._cores, self._most))

    def _busy_others(self) -> float:
        """Return the number of cores that other programs have kept busy since the last call."""
        times = psutil.cpu_times_percent()  # Lightning asks for `cpu_percent`, which begins the interval of that again
        busy = self._cores * (100 - times.idle - getattr(times, "iowait", 0)) - self._process.cpu_percent()
        self._measured_at = time.monotonic()
        return busy / 100

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give all threads back."""
        torch.set_num_threads(self._most)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give all threads back, to the next run of this process, such as a worker's."""
        torch.set_num_threads(self._most)
