"""The base class of all objectives, and the default."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from poslab.models import Model
from poslab.tasks.measurement import Sums
from poslab.tasks.task import Task


class ObjectiveSums(NamedTuple):
    """The sums of an objective over a batch, each a scalar tensor.

    Args:
        loss: to be minimised: a sum whose mean is over `own.counted`.
        own: of the task alone.
        terms: a sum and its number for each of `Objective.terms`, to be recorded.
    """

    loss: Tensor
    own: Sums
    terms: tuple[tuple[Tensor, Tensor], ...] = ()


@dataclass(frozen=True)
class Teacher:
    """A trained model that another one learns from.

    It is not a module, so that it is in no checkpoint, optimizer or group of processes.

    Args:
        model: in evaluation mode.
        longest: most tokens of a sequence that it reads.
        source: where it comes from, such as a run directory.
        predicts: False if it does not make the predictions of the task, so that only its hidden states can be learned.
    """

    model: Model
    longest: int
    source: str
    predicts: bool = True


class Objective(ABC):
    """The loss of a training step.

    Metrics of validation and test are those of the task under every objective, so that runs can be compared.
    """

    terms: ClassVar[tuple[str, ...]] = ()
    """The names of the means that it records beside the metrics of the task, such as `distillation`."""

    def num_earlier(self, sequence_length: int) -> int:
        """Return the number of tokens before each window of training, of this length, that a teacher reads too."""
        return 0

    processes_per_window: int = 1
    """Number of processes that share each window of training."""

    @abstractmethod
    def sums(self, task: Task, model: Model, batch: Any, teacher: Teacher | None) -> ObjectiveSums:
        """Return the sums of a model in training on a batch; `teacher` is None for objectives that have none."""


@dataclass(frozen=True)
class TaskLoss(Objective):
    """The loss of the task alone."""

    def sums(self, task: Task, model: Model, batch: Any, teacher: Teacher | None) -> ObjectiveSums:
        sums = task.loss(model, batch)
        return ObjectiveSums(sums.loss, sums)
