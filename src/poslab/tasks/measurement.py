"""Measurement of a model on a split, and the record of a task in a run, `task.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor
from torchmetrics import Metric

from poslab.arguments import Range, with_checked_arguments
from poslab.io.files import read_json, write_atomically
from poslab.models import Outputs

ItemSums = Mapping[str, tuple[float, int]]
"""The sum of each metric that is a mean over tokens or examples, and their number, by name; shares are in per cent."""


class Sums(NamedTuple):
    """Sums over the tokens to predict, or the examples, that count in a batch. Each is a scalar tensor."""

    loss: Tensor  # nats
    correct: Tensor
    counted: Tensor


class Observation(NamedTuple):
    """The results of a model on a batch, or on one row of it, for metrics."""

    sums: Sums  # loss and accuracy
    answers: Any = None  # for other metrics of a task; None is nothing


class MeasuredTask(Protocol):
    """The part of a task that a measurement needs."""

    def from_means(self, split: str, loss: float, accuracy: float) -> dict[str, float]:
        """Return metrics, as `Task.from_means` does."""


Score = tuple[Tensor | float, Tensor | int]
"""A sum over tokens or examples, and their number."""


class ScoreMeans(Metric):
    """Means of scores by name, over all batches and processes."""

    full_state_update = False

    sums: Tensor
    numbers: Tensor

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names
        for state in ("sums", "numbers"):
            self.add_state(state, torch.zeros(len(names), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, *scores: Score) -> None:
        """Add a score for each name."""
        for index, (total, number) in enumerate(scores):
            self.sums[index] += total
            self.numbers[index] += number

    def compute(self) -> dict[str, float]:
        return dict(zip(self.names, (self.sums / self.numbers).tolist(), strict=True))


class Measurement:
    """The metrics of all batches and processes of a split together, each example counted once.

    Shares and scores (accuracy, exact match, F1, BLEU ...) are from 0 to 100. `counts` are further metrics by name,
    updated with each of the answers of a batch. It is not a module, since its counts would become bfloat16 with a
    model.
    """

    def __init__(self, task: MeasuredTask, split: str, counts: Metric | None = None) -> None:
        self.task = task
        self.split = split
        self.means = ScoreMeans("loss", "accuracy")
        self.counts = counts

    def update(self, observation: Observation) -> None:
        """Add a batch."""
        sums = observation.sums
        self.means.update((sums.loss, sums.counted), (100 * sums.correct, sums.counted))
        if self.counts is not None:
            for answer in observation.answers:
                self.counts.update(*answer)

    def compute(self) -> dict[str, float]:
        """Return the metrics by name."""
        metrics = self.task.from_means(self.split, **self.means.compute())
        return metrics if self.counts is None else {**metrics, **self.counts.compute()}

    def metrics(self) -> list[Metric]:
        return [value for value in vars(self).values() if isinstance(value, Metric)]

    def begin(self, device: torch.device) -> None:
        """Forget all batches, and move to this device."""
        for metric in self.metrics():
            metric.reset()
            metric.to(device)


MAX_EXTRA_TOKENS = 100_000  # far above the special tokens of any task


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """The part of a task that the use of a trained model needs."""

    outputs: Outputs | None = None  # output layer of the model; None means token logits
    # number of tokens in addition to the tokenizer's, such as a mask
    extra_tokens: Annotated[int, Range(0, MAX_EXTRA_TOKENS)] = 0

    @property
    def patch_width(self) -> int | None:
        """Number of values of a patch; None for data without patches."""
        return None

    @classmethod
    def read(cls, file: Path) -> Self:
        """Return the record in a file, of no arguments without one; ValueError, naming the file, if it is damaged."""
        content = read_json(file) if file.is_file() else {}
        known = {argument.name for argument in fields(cls)}
        try:
            if strange := sorted(content.keys() - known):
                raise ValueError(f"{strange[0]!r:.40} is not one of {', '.join(sorted(known))}")
            if (outputs := content.pop("outputs", None)) is None:
                return cls(**content)
            if not (isinstance(outputs, list) and [*map(type, outputs)] == [int, bool] and outputs[0] >= 1):
                raise ValueError(f"outputs must be a positive integer and true or false, got {outputs!r:.40}")
            return cls(**content, outputs=Outputs(*outputs))
        except ValueError as error:
            raise ValueError(f"{file} is damaged: {error}") from error

    def write(self, file: Path) -> None:
        """Write the record to a file."""
        write_atomically(file, json.dumps(asdict(self), indent=2) + "\n")


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class NamedOutputs(TaskRecord):
    """The record of a task each of whose outputs has a name.

    Args:
        classes: the names, all different, in the order of their numbers.
        others: as in `TaskRecord`.
    """

    classes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.outputs is None:
            raise ValueError("it has no outputs, as of another task")
        if len(self.classes) != self.outputs.size:
            raise ValueError(f"classes must be as many as outputs, got {len(self.classes)} for {self.outputs.size}")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes must all be different")
