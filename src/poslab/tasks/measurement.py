"""Measurement of a model on a split: the results of its batches, added up to metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torchmetrics import Metric

ItemSums = Mapping[str, tuple[float, int]]
"""The sum of each metric that is a mean over tokens or examples, and their number, by name; shares are in per cent."""


class Sums(NamedTuple):
    """Sums over the tokens to predict, or the examples, that count in a batch. Each is a scalar tensor."""

    loss: Tensor  # nats
    correct: Tensor
    counted: Tensor


class Observation(NamedTuple):
    """The results of a model on a batch, or on one row of it, for metrics.

    Args:
        sums: loss and accuracy.
        answers: for other metrics of a task; None is nothing.
    """

    sums: Sums
    answers: Any = None


class MeasuredTask(Protocol):
    """The part of a task that a measurement needs."""

    def from_means(self, split: str, loss: float, accuracy: float) -> dict[str, float]:
        """Return metrics, as `Task.from_means` does."""


class Measurement:
    """The metrics of all batches and processes together, each example counted once.

    Shares and scores (accuracy, exact match, F1, BLEU ...) are from 0 to 100.

    It is not a module, since its counts would turn to bfloat16 with a model.

    Args:
        task: of the metrics.
        split: `validation` or `test`.
        counts: further metrics by name, updated with each of the answers of a batch; None has none.
    """

    def __init__(self, task: MeasuredTask, split: str, counts: Metric | None = None) -> None:
        self.task = task
        self.split = split
        self.means = Means()
        self.counts = counts

    def update(self, observation: Observation) -> None:
        """Add a batch."""
        self.means.update(observation.sums)
        if self.counts is not None:
            for answer in observation.answers:
                self.counts.update(*answer)

    def compute(self) -> dict[str, float]:
        """Return the metrics by name."""
        metrics = self.task.from_means(self.split, *self.means.compute())
        return metrics if self.counts is None else {**metrics, **self.counts.compute()}

    def metrics(self) -> list[Metric]:
        """Return its metrics."""
        return [value for value in vars(self).values() if isinstance(value, Metric)]

    def begin(self, device: torch.device) -> None:
        """Forget all batches, and move to this device."""
        for metric in self.metrics():
            metric.reset()
            metric.to(device)


class Means(Metric):
    """Mean loss and accuracy (0 to 100) over all batches and processes."""

    full_state_update = False

    loss: Tensor
    correct: Tensor
    counted: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in Sums._fields:
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, sums: Sums) -> None:
        self.loss += sums.loss
        self.correct += sums.correct
        self.counted += sums.counted

    def compute(self) -> tuple[float, float]:
        """Return the mean loss, and the accuracy in per cent."""
        return (self.loss / self.counted).item(), (100 * self.correct / self.counted).item()
