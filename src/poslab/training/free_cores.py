"""Threads of a run on a CPU: one for each core that other programs leave free."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import lightning as L
import psutil
import torch

INTERVAL_S = 2.0
"""Seconds over which the load of other programs is measured."""


class Reading(NamedTuple):
    """A moment, and the seconds of processor time that all programs and this process have had by then."""

    moment: float
    total: float
    of_this: float

    @classmethod
    def now(cls) -> Reading:
        """Return a reading."""
        times, of_this = psutil.cpu_times(), psutil.Process().cpu_times()
        idle = times.idle + getattr(times, "iowait", 0) + getattr(times, "guest", 0) + getattr(times, "guest_nice", 0)
        return cls(time.monotonic(), sum(times) - idle, of_this.user + of_this.system)


def free_threads(before: Reading, now: Reading, cores: int, most: int) -> int:
    """Return how many threads have a core of their own, between two readings: from 1 to `most`."""
    others = (now.total - before.total - (now.of_this - before.of_this)) / (now.moment - before.moment)
    return max(1, min(most, round(cores - others)))


class FreeCores(L.Callback):
    """Change the number of PyTorch's threads in training with the load of the machine, up to that at its start.

    Threads wait for one another in every operation, and so for the one whose core another program has: on two cores
    beside three busy programs, a small step of two threads takes 100 times as long as alone, one of a single thread
    twice as long. The results do not depend on the number of threads.
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the number of threads, which is the largest."""
        self._most, self._before = torch.get_num_threads(), Reading.now()

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Measure the load, unless that was a moment ago."""
        if self._most > 1 and time.monotonic() - self._before.moment >= INTERVAL_S:
            before, self._before = self._before, Reading.now()
            torch.set_num_threads(free_threads(before, self._before, psutil.cpu_count() or 1, self._most))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give all threads back."""
        if stage == "fit":
            torch.set_num_threads(self._most)
