"""What a batch means: the learner knows a task through this alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from poslab.models import Outputs


class Sums(NamedTuple):
    """Sums over what counts in a batch: tokens to predict, or examples. Each is a scalar tensor."""

    loss: Tensor  # nats
    correct: Tensor
    counted: Tensor


class Observation(NamedTuple):
    """What a model made of a batch, as measurements take it.

    Args:
        sums: loss and accuracy.
        answers: what else a task measures; None is nothing.
    """

    sums: Sums
    answers: Any = None


class Task(ABC):
    """What a model is to do, and how well it does it.

    The loss of a training step is a sum over what counts divided by how much of that the global batch holds, so that
    devices, micro-batches and padding change nothing.
    """

    outputs: Outputs | None = None
    """What is read of the model; None is logits of tokens."""

    answers: ClassVar[bool] = True
    """Whether it is a function of a text, which `poslab.serve` gives of a run."""

    extra_tokens: int = 0
    """How many tokens a model has beside those of text, such as one that masks."""

    headline: ClassVar[str]
    """The figure that a person follows while a model trains."""

    shown: ClassVar[tuple[str, ...]]
    """The figures of a test that a person sees."""

    validated: ClassVar[tuple[str, ...]]
    """The figures of a validation."""

    chosen_by: ClassVar[str] = "loss"
    """The figure of a validation that chooses the best state of a run: the least loss, or the most of another one."""

    pools_lengths: ClassVar[bool] = True
    """Whether the lengths of a split are of different examples, so that its figures are those of many lengths together.

    A test has them all, a validation those up to the training length: no state of a model is chosen by how well it does
    beyond. Otherwise each length is the whole split, read in windows of that length, and the training length stands for
    it.
    """

    @abstractmethod
    def sums(self, model: nn.Module, batch: Any) -> Sums:
        """Loss (in nats), what is right, and how much counts in a batch."""

    def observe(self, model: nn.Module, batch: Any, split: str) -> Observation:
        """What a model makes of a batch of `validation` or `test`."""
        return Observation(self.sums(model, batch))

    def measurement(self, split: str) -> Measurement:
        """What measures a model on a split, or on those of its examples that have about the same length."""
        return Measurement(self, split)

    def figures(self, split: str, loss: float, accuracy: float) -> dict[str, float]:
        """Return what is reported of a mean loss (nats) and an accuracy (0 to 100) on a split."""
        return {"loss": loss, "accuracy": accuracy}

    def record(self) -> dict[str, Any]:
        """What must be known, beside configuration and tokenizer, to use a model that has learned the task."""
        return {"outputs": self.outputs, "extra_tokens": self.extra_tokens}

    def figures_over_lengths(self, by_length: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
        """What is reported of the figures at all lengths together."""
        return {}


class Measurement:
    """The figures of all batches and processes together, each example counted once.

    Shares and scores (accuracy, exact match, F1, BLEU ...) are from 0 to 100.

    It is no module: a model that is moved to bfloat16 would take its counts along.

    Args:
        task: whose figures.
        split: `validation` or `test`.
    """

    def __init__(self, task: Task, split: str) -> None:
        self.task = task
        self.split = split
        self.means = Means()

    def update(self, observation: Observation) -> None:
        """Adds a batch."""
        self.means.update(observation.sums)

    def figures(self) -> dict[str, float]:
        """The figures by name."""
        return self.task.figures(self.split, *self.means.compute())

    def metrics(self) -> list[Metric]:
        """What counts."""
        return [value for value in vars(self).values() if isinstance(value, Metric)]

    def begin(self, device: torch.device) -> None:
        """Forgets all batches; from now on they are on this device."""
        for metric in self.metrics():
            metric.reset()
            metric.to(device)


class Means(Metric):
    """Mean loss and accuracy (0 to 100) over all that counts in all batches and processes."""

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
        """Return the mean loss, and what is right in per cent."""
        return (self.loss / self.counted).item(), (100 * self.correct / self.counted).item()
