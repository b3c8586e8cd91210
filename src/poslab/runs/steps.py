"""The loss of a training step (objectives), and its gradient (steps).

Dimension letters: B batch, T tokens of a window.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed import ProcessGroup
from torch.distributed.tensor import DTensor

from poslab.attention.cache import GatheredLayer
from poslab.data.batch import TokenBatch
from poslab.encodings import Positions
from poslab.models import Model
from poslab.tasks.measurement import Sums
from poslab.tasks.task import Task


class ObjectiveSums(NamedTuple):
    """The sums of an objective over a batch, each a scalar tensor.

    The mean of `loss`, which is to be minimised, is over `task.counted`. `terms` has a sum and its number for each of
    `Objective.terms`, to be recorded.
    """

    loss: Tensor
    task: Sums
    terms: tuple[tuple[Tensor, Tensor], ...] = ()


@dataclass(frozen=True)
class Teacher:
    """A trained model, in evaluation mode, that another one learns from.

    It is not a module, so that it is in no checkpoint, optimizer or group of processes.
    """

    model: Model
    longest: int  # most tokens of a sequence that it reads
    source: str  # where it comes from, such as a run directory
    # False if it does not make the predictions of the task, so that only its hidden states can be learned
    predicts: bool = True


class Objective(ABC):
    """The loss of a training step.

    Metrics of validation and test are the task's under every objective, so that runs can be compared.
    """

    terms: ClassVar[tuple[str, ...]] = ()
    """The names of the means that it records besides the metrics of the task, such as `distillation`."""

    def num_earlier(self, sequence_length: int) -> int:
        """Return the number of tokens before each window of training, of this length, that a teacher reads too."""
        return 0

    processes_per_window: int = 1  # number of processes that share each window of training

    @abstractmethod
    def sums(self, task: Task, model: Model, batch: Any, teacher: Teacher | None) -> ObjectiveSums:
        """Return the sums of a model in training on a batch; `teacher` is None for objectives that have none."""


@dataclass(frozen=True)
class TaskLoss(Objective):
    """Only the loss of the task."""

    def sums(self, task: Task, model: Model, batch: Any, teacher: Teacher | None) -> ObjectiveSums:
        sums = task.loss(model, batch)
        return ObjectiveSums(sums.loss, sums)


@dataclass(frozen=True)
class ContextParallel(Objective):
    """The loss of next tokens where processes with successive ranks share each window, in parts of equal length.

    A process computes only its own tokens, each layer with the keys and values of the tokens before them, which the
    processes gather. So its tokens have the logits, and all processes together the gradient, of the whole window.

    The draws of an encoding (the offset of Abacus) are the same in all parts of a window; each has its own dropout.
    """

    processes_per_window: int

    @cached_property
    def group(self) -> ProcessGroup:
        """The processes that share the windows of this one; all processes of the run must ask for a group at once."""
        group, _ = distributed.new_subgroups(self.processes_per_window)
        return group

    def sums(self, task: Task, model: Model, batch: TokenBatch, teacher: Teacher | None) -> ObjectiveSums:
        assert "context_parallel" in model.capabilities, "checked before training"
        dropout: Any = model.dropout
        length = batch.tokens.shape[1] // self.processes_per_window
        rank = distributed.get_rank(self.group)
        first = rank * length
        part = slice(first, first + length)
        if batch.segments is None:
            positions = Positions.range(batch.tokens.shape[1], device=batch.tokens.device)
        else:
            positions = Positions.packed(batch.segments)
        earlier = model.new_cache()
        earlier.layers = [GatheredLayer(self.group) for _ in earlier.layers]
        if first:
            earlier.append_positions(positions.part(slice(0, first)), None)
            earlier.append_tokens(batch.tokens[:, :first])
        # The first dropout comes after all that encodings draw.
        at_first_dropout = dropout.register_forward_pre_hook(lambda *_: _seed_process(rank))
        logits_BTV = model(batch.tokens[:, part], positions.part(part), None, earlier)
        at_first_dropout.remove()
        sums = task.sums(logits_BTV, TokenBatch(batch.tokens[:, part], batch.targets[:, part]))
        return ObjectiveSums(sums.loss, sums)


def _seed_process(rank: int) -> None:
    """Seed the random numbers of a process again, by the last seed and its number among those that share a window."""
    entropy = (torch.initial_seed(), rank)
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


@dataclass(frozen=True)
class RunInfo:
    """Facts of a run that a step needs.

    The global batch has `batch_size` rows, or that number is expected where rows are drawn independently. `num_rows` is
    of training; None if they are not a fixed set.
    """

    batch_size: int
    max_steps: int
    seed: int
    num_rows: int | None


class Gradients(ABC):
    """The gradients of a run, step by step: `sums` and `backward` for each micro-batch, then `finish`."""

    def sums(
        self, objective: Objective, task: Task, model: Model, batch: Any, teacher: Teacher | None
    ) -> ObjectiveSums:
        """Return the sums of an objective over a micro-batch, in training."""
        return objective.sums(task, model, batch, teacher)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a micro-batch to the parameters', from the loss that Lightning hands on."""
        loss.backward()

    @abstractmethod
    def finish(self, parameters: list[nn.Parameter], counted: Tensor, step: int) -> None:
        """Make the gradients of all parameters that learn those that the optimizer is to see.

        `counted` is the number of predictions in the global batch, and `step` counts from 0.
        """

    def metrics(self, steps: int) -> dict[str, float]:
        """Return what is to be recorded besides the metrics of training after a number of steps."""
        return {}


class Step(ABC):
    """A way to make the gradient of a step."""

    draws_independently: ClassVar[bool] = False
    """True if each row is in a batch with the same probability, whatever the others are; else rows come in passes."""

    @abstractmethod
    def check(self, config: Mapping[str, Any], model: Model, processes: int, lengths_vary: bool) -> None:
        """Raise ValueError, naming the key, if a run cannot make its steps so, as far as it can be known without data.

        `processes` train it together; `lengths_vary` if the rows of a batch are padded to the longest.
        """

    @abstractmethod
    def begin(self, run: RunInfo) -> Gradients:
        """Return what makes the gradients of a run; ValueError, naming the key, if it cannot make its steps so."""


@dataclass(frozen=True)
class Standard(Step):
    """The gradient of the mean over all predictions of the global batch."""

    def check(self, config: Mapping[str, Any], model: Model, processes: int, lengths_vary: bool) -> None:
        pass

    def begin(self, run: RunInfo) -> Gradients:
        return MeanGradients(run.batch_size)


class MeanGradients(Gradients):
    """Gradients by one backward pass for each micro-batch.

    Until `finish`, the loss is a mean over the rows of the global batch (by the learner), micro-batches (by Lightning)
    and processes (by DDP).
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    def finish(self, parameters: list[nn.Parameter], counted: Tensor, step: int) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_mul_(
            [g.to_local() if isinstance(g, DTensor) else g for g in gradients], self.batch_size / counted
        )
