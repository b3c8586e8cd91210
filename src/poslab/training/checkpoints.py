"""The last and the best state of a run, and signals that stop it after its state is saved."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Self

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from poslab.runs.checkpoint import CONFIG, OWN_STATE, load_checkpoint, save_atomically
from poslab.runs.directory import CHECKPOINT
from poslab.runs.errors import RunInterruptedError
from poslab.training.learner import Learner

SECONDS_APART = 0.3
"""Signals closer together count as one: `timeout` and others signal a process and then its whole group."""

UNWIND_TIMEOUT_S = 2
"""Longest time for Python to react to a second signal; within one long operation it does not see signals."""


class StopOnSignals(L.Callback):
    """A callback, and the context in which SIGTERM and Ctrl-C stop training after the present step.

    Outside of training they stop the process at once. A second signal ends the process, even within an operation that
    never returns.

    Args:
        second_sigterm_ends: whether that applies to a second SIGTERM; not in a process that may get one from its parent
            and another one from a signal to the whole group.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, second_sigterm_ends: bool = True) -> None:
        self._second_ends = self.SIGNALS if second_sigterm_ends else (signal.SIGINT,)
        self._learner: Learner | None = None
        self._only_noted = False
        self._before: dict[int, Any] = {}
        self._first_at = 0.0
        self.received: int | None = None
        self.repeated = False

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) for number in self.SIGNALS}
        # Python runs a handler only between two of its own operations; this pipe has the signal's number at once.
        reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._wakeup_before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._end_if_second, args=[reading], daemon=True)
        self._thread.start()
        self._install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._writing)
        self._thread.join()

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Let a signal only set `received`, and a second one `repeated`, within this context."""
        self._only_noted = True
        try:
            yield
        finally:
            self._only_noted = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        self._learner = pl_module
        self._install()  # over Lightning's handler, which communicates with other processes

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._install()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._learner = None
        if self.received is not None:  # during the last validation, after which the run was saved
            raise RunInterruptedError(self.received)

    def _install(self) -> None:
        for number in self.SIGNALS:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None:
            self._first_at = now
        elif now - self._first_at < SECONDS_APART:
            return
        else:
            self.repeated = self.repeated or number in self._second_ends
        self.received = number
        if self._only_noted:
            return
        if self._learner is None or self.repeated:
            raise RunInterruptedError(number)
        self._learner.stop_requested = True

    def _end_if_second(self, reading: int) -> None:
        """Wait for a second signal, in a thread, and end the process if Python does not."""
        first_at: float | None = None
        with os.fdopen(reading, "rb", buffering=0) as numbers:
            while number := numbers.read(1):
                now = time.monotonic()
                if number[0] not in self.SIGNALS:
                    continue
                if first_at is None:
                    first_at = now
                elif now - first_at >= SECONDS_APART and number[0] in self._second_ends:
                    break
            else:
                return
            end = now + UNWIND_TIMEOUT_S  # however many signals come
            while (left := end - time.monotonic()) > 0 and select.select([numbers], [], [], left)[0]:
                if not numbers.read(1):
                    return
        interrupted = RunInterruptedError(number[0])
        os.write(2, f"error: {interrupted}\n".encode())
        os._exit(interrupted.exit_status)


class RunCheckpoints(Checkpoint):
    """A callback that saves the last and the best state of a run, and ends the run after a request to stop.

    After a validation both are written, the best first: a run that resumes from the last makes again what a kill
    between the two has lost. The last state is also saved every `save_every` steps. Both record `config`, the hashes of
    the run's configuration.
    """

    def __init__(
        self, directory: Path, save_every: int, signals: StopOnSignals, config: Mapping[str, str] | None = None
    ) -> None:
        self.config = None if config is None else dict(config)
        self.save_every = save_every
        self.signals = signals
        self.best = directory / f"best{CHECKPOINT}"
        self.last = directory / f"last{CHECKPOINT}"
        self.best_step = 0
        self.best_metrics: dict[str, float] = {}  # validation metrics of the best state, by tag

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
