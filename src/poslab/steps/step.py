"""The base classes of steps, and the default."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from poslab.models import Model
from poslab.objectives.objective import Objective, ObjectiveSums, Teacher
from poslab.tasks.task import Task


@dataclass(frozen=True)
class RunInfo:
    """Facts of a run that a step needs.

    Args:
        batch_size: rows of a global batch, or their expected number where rows are drawn independently.
        max_steps: optimizer steps of the run.
        seed: of all randomness in training.
        num_rows: rows of training; None if they are not a fixed set.
    """

    batch_size: int
    max_steps: int
    seed: int
    num_rows: int | None


class Gradients(ABC):
    """The gradients of a run, step by step: `sums` and `backward` for each micro-batch, then `finish`."""

    @abstractmethod
    def sums(
        self, objective: Objective, task: Task, model: Model, batch: Any, teacher: Teacher | None
    ) -> ObjectiveSums:
        """Return the sums of an objective over a micro-batch, in training."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a micro-batch to the parameters', from the loss that Lightning hands on."""

    @abstractmethod
    def finish(self, parameters: list[nn.Parameter], counted: Tensor, step: int) -> None:
        """Make the gradients those that the optimizer is to see.

        Args:
            parameters: all that learn.
            counted: predictions in the global batch.
            step: number of the optimizer step, from 0.
        """

    def metrics(self, steps: int) -> dict[str, float]:
        """Return what is to be recorded beside the metrics of training after a number of steps."""
        return {}


class Step(ABC):
    """A way to make the gradient of a step."""

    draws_independently: ClassVar[bool] = False
    """True if each row is in a batch with the same probability, whatever the others are; else rows come in passes."""

    @abstractmethod
    def check(self, config: Mapping[str, Any], model: Model, processes: int, lengths_vary: bool) -> None:
        """Check that a run can make its steps so, as far as it can be known without data.

        Args:
            config: of the run.
            model: of the run, on any device.
            processes: that train it together.
            lengths_vary: True if the rows of a batch are padded to the longest.

        Raises:
            ValueError: naming the key, if it cannot.
        """

    @abstractmethod
    def begin(self, run: RunInfo) -> Gradients:
        """Return what makes the gradients of a run.

        Raises:
            ValueError: naming the key, if the run cannot make its steps so.
        """


@dataclass(frozen=True)
class Standard(Step):
    """The gradient of the mean over all predictions of the global batch."""

    def check(self, config: Mapping[str, Any], model: Model, processes: int, lengths_vary: bool) -> None:
        pass

    def begin(self, run: RunInfo) -> Gradients:
        return MeanGradients(run.batch_size)


class MeanGradients(Gradients):
    """Gradients by one backward pass for each micro-batch.

    Args:
        batch_size: rows of the global batch. Until `finish`, the loss is a mean over rows (by the learner),
            micro-batches (by Lightning) and processes (by DDP).
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    def sums(
        self, objective: Objective, task: Task, model: Model, batch: Any, teacher: Teacher | None
    ) -> ObjectiveSums:
        return objective.sums(task, model, batch, teacher)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def finish(self, parameters: list[nn.Parameter], counted: Tensor, step: int) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_mul_(
            [g.to_local() if isinstance(g, DTensor) else g for g in gradients], self.batch_size / counted
        )
