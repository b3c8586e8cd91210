from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Self

import lightning as L

from poslab.errors import RunInterruptedError
from poslab.training.learner import Learner


class StopOnSignals(L.Callback):
    """Turns SIGTERM and Ctrl-C into a request to stop after the present step; outside of training they stop at once.

    A context manager: within it the signals are handled, after it they are as before. A second Ctrl-C stops at once; a
    second SIGTERM does not, for a process of several may get it from its launcher and from whoever stopped them all.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self._learner: Learner | None = None
        self._before: dict[int, Any] = {}
        self.received: int | None = None

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) for number in self.SIGNALS}
        self._install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        self._learner = pl_module
        self._install()  # over Lightning's own handler, which talks to other processes while it is called

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._install()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._learner = None
        if self.received is not None:  # in the last validation, after which the run was saved
            raise RunInterruptedError(self.received)

    def _install(self) -> None:
        for number in self.SIGNALS:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None and number == signal.SIGINT
        self.received = number
        if self._learner is None or again:
            raise RunInterruptedError(number)
        self._learner.stop_requested = True
