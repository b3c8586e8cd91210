"""Signals that stop a run after it is saved, or at once if a second one comes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, Self

import lightning as L

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
        second_sigterm_ends: whether that holds for a second SIGTERM; not in a process that may get one from its parent
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
