"""The base class of all tasks (batches, loss, metrics and predictions), and the task of a model on a kind of data."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType, ModuleType
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

import poslab.models
import poslab.tasks
from poslab.data.batch import Batch
from poslab.data.kinds import Kind
from poslab.encodings import PositionSampler
from poslab.models import Capability, Model, Outputs
from poslab.tasks.measurement import ItemSums, Measurement, Observation, Sums, TaskRecord


class LengthWords(NamedTuple):
    """Words for the lengths at which a task is measured."""

    of: str  # what has the length, such as `the example`
    at: tuple[str, str]  # where a number was measured: a preposition, and words with a length to be filled in
    trained: str  # what a model was trained on up to a length that is to be filled in
    name: str = "length"  # the length itself, such as `side`


OF_EXAMPLES = LengthWords("the example", ("at", "length {:,}"), "examples of length up to {:,}")
OF_WINDOWS = LengthWords("the window in tokens", ("in", "windows of {:,} tokens"), "windows of {:,} tokens", "context")


class Prediction(NamedTuple):
    """The prediction of a model for a text."""

    # a class, or several separated by commas, a translation, the result of an algorithm. A written text has no white
    # space around it
    text: str
    # of each class, the most probable first; empty where there are no classes
    probabilities: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Search:
    """Settings of the search for a text of many tokens, as of `beam_search`."""

    beams: int = 1
    length_penalty: float = 1.0
    max_new_tokens: int = 400


class Task(ABC):
    """A task that a model learns, on one kind of data.

    The loss of a training step is a sum over tokens or examples divided by their number in the global batch, so that
    devices, micro-batches and padding change nothing.

    A subclass in this folder is found by its `kind` and `needs`; see `task_for`.
    """

    kind: ClassVar[Kind]  # the kind of its data
    needs: ClassVar[frozenset[Capability]]  # the capabilities that a model must have
    single_sequence: ClassVar[bool] = False  # True if the texts of a pair are read as one

    generation_options: ClassVar[tuple[str, ...]] = ()
    """The options of `python -m src.generate` that change what a model predicts."""

    decodes_in_test: ClassVar[bool] = False  # True if a test has the model write texts token by token
    record_type: ClassVar[type[TaskRecord]] = TaskRecord  # the class of its record in a run
    outputs: Outputs | None = None  # the outputs that it needs of the model; None is token logits
    predicts_tokens: ClassVar[bool] = True  # True if its outputs are token logits
    extra_tokens: int = 0  # the number of tokens in addition to the tokens of text, such as a mask

    columns: ClassVar[tuple[str, ...]] = ()
    """The columns of examples that a batch is made of, for kinds that have columns."""

    measured_columns: ClassVar[tuple[str, ...]] = ()  # the columns that an evaluation needs in addition
    headline: ClassVar[str]  # the metric to follow while a model trains
    shown: ClassVar[tuple[str, ...]]  # the printed metrics of a test

    open_ended: ClassVar[frozenset[str]] = frozenset({"loss", "perplexity", "bits_per_byte"})
    """The metrics without a largest value; all others are shares and scores from 0 to 100."""

    validated: ClassVar[tuple[str, ...]]  # the metrics of a validation

    chosen_by: ClassVar[str] = "loss"
    """The metric of a validation that chooses the best state of a run: the least loss, or the most of another one."""

    predicts_next_tokens: ClassVar[bool] = False
    """True if each token of a text is predicted from those before it, so that a text can be read in any windows."""

    aggregate_lengths: ClassVar[bool] = True
    """True if the lengths of a split are of different examples, so that its metrics are over many lengths together.

    A test has them all, a validation the lengths up to the training length, so that no state of a model is chosen by
    its results beyond it. Otherwise each length is the whole split, as windows or images of that size, and the longest
    one of training is taken for it.
    """

    length_words: ClassVar[LengthWords] = OF_EXAMPLES  # words for its lengths

    @classmethod
    def first_metric(cls) -> str:
        """Return the metric that sums up a test in one number."""
        return "bits_per_byte" if "bits_per_byte" in cls.validated else cls.shown[0]

    @classmethod  # noqa: B027, most tasks refuse nothing
    def check(cls, source: Any, positions: PositionSampler | None) -> None:
        """Raise ValueError if the task cannot be learned from a source of its kind, or at sampled positions."""

    @classmethod
    @abstractmethod
    def of(cls, data: Any) -> Task:
        """Return the task of data (`RunData`) after `setup`."""

    @classmethod
    def restored(cls, record: Any, tokenizer: Any, source: Any) -> Task:
        """Return the task of a run, for its predictions; ValueError if the record is of another, or of none."""
        raise ValueError("it has learned to predict text, and answers nothing")

    @abstractmethod
    def collate(self, rows: Any, counts: np.ndarray) -> Batch:
        """Return the batch of some examples of the kind: `WindowRows`, `Rows` or a list of `Example`.

        `counts` is False for examples, (B,), or tokens of windows, (B, U), that fill up a batch.
        """

    def num_tokens(self, batch: Any) -> int | Tensor:
        """Return the number of tokens of a batch without padding; a scalar tensor where there is padding."""
        return batch.tokens.numel() if batch.real is None else batch.real.sum()

    @abstractmethod
    def logits(self, model: Model, batch: Any) -> Tensor:
        """Return the outputs of a model on a batch, one row for each of its rows."""

    @abstractmethod
    def sums(self, logits: Tensor, batch: Any) -> Sums:
        """Return the loss (in nats), the number of right predictions, and of all that count in a batch."""

    def distributions(self, logits: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the distributions whose cross-entropies are the loss of a batch; ValueError if it is none.

        Logits are of each of N options, (..., N), and weights of each prediction, (...); 0 where it does not count.
        They sum to `Sums.counted`.
        """
        raise ValueError(f"objective must not be distil: {type(self).__name__} predicts no distributions")

    @abstractmethod
    def first_tokens(self, batch: Any, length: int) -> Any:
        """Return a batch with at most that many tokens of each sequence; the same batch if none has more.

        A prediction does not count where what it needs is lost.
        """

    def with_earlier_tokens(self, batch: Any) -> Any:
        """Return a batch whose rows start with the text before them; the same batch if it has none."""
        return batch

    def hidden_states(self, model: Model, batch: Any) -> Tensor:
        """Return the hidden states of a model that reads no source on a batch, (B, T, M)."""
        return model.hidden_states(batch.tokens, real=batch.real)

    def answers(self, logits: Tensor, batch: Any) -> Any:
        """Return what metrics other than loss and accuracy need of a batch."""
        return None

    def loss(self, model: Model, batch: Any) -> Sums:
        """Return the sums of a model on a batch."""
        return self.sums(self.logits(model, batch), batch)

    def observe(self, model: Model, batch: Any, split: str) -> Observation:
        """Return the results of a model on a batch of `validation` or `test`."""
        logits = self.logits(model, batch)
        return Observation(self.sums(logits, batch), self.answers(logits, batch))

    def observe_rows(self, model: Model, batch: Any, split: str) -> list[Observation]:
        """Return the results of a model on each row of a batch, all of which count."""
        logits = self.logits(model, batch)
        rows = [
            type(batch)(*(part[n : n + 1] if isinstance(part, Tensor | Sequence) else part for part in batch))
            for n in range(len(logits))
        ]
        return [
            Observation(self.sums(logits_of_row, row), self.answers(logits_of_row, row))
            for logits_of_row, row in zip(logits.split(1), rows, strict=True)
        ]

    def scores(self, observation: Observation) -> ItemSums:
        """Return the scores of a row."""
        loss, correct, counted = (number.item() for number in observation.sums)
        return {"loss": (loss, int(counted)), "accuracy": (100 * correct, int(counted))}

    def metrics(self, split: str) -> Measurement:
        """Return a new measurement of a split, or of its examples of about one length."""
        return Measurement(self, split)

    def from_means(self, split: str, loss: float, accuracy: float) -> dict[str, float]:
        """Return the metrics that follow from a mean loss (nats) and an accuracy (0 to 100) on a split."""
        return {"loss": loss, "accuracy": accuracy}

    def over_lengths(self, by_length: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
        """Return metrics that follow from the metrics at all lengths together."""
        return {}

    def record(self) -> TaskRecord:
        """Return its record, of `record_type`."""
        return TaskRecord(outputs=self.outputs, extra_tokens=self.extra_tokens)

    def predict(self, model: Model, text: str, search: Search) -> Prediction:
        """Predict the class, tags, answer or target of a text; ValueError for one that is not an input of the task.

        Two texts are separated by a tab. The model is in evaluation mode.
        """
        raise NotImplementedError

    def example_prompt(self) -> str | None:
        """Return an input of the task, as typed in a shell; None where there is none."""
        return None


def device_of(model: Model) -> torch.device:
    return next(model.parameters()).device


T = TypeVar("T")


def task_for(kind: Kind, model: type[Model], capabilities: frozenset[str]) -> type[Task]:
    """Return the task of a model on a kind of data; ValueError, starting with `model`, if there is none."""
    task = _task_of(kind, capabilities)
    if task is None:
        choices = " or ".join(snake(known.__name__) for known in models() if _task_of(kind, known.capabilities))
        raise ValueError(f"model must be {choices} for {kind.name} data, got {snake(model.__name__)}")
    return task


def _task_of(kind: Kind, capabilities: frozenset[str]) -> type[Task] | None:
    return next((task for task in tasks() if task.kind is kind and task.needs <= capabilities), None)


@cache
def tasks() -> tuple[type[Task], ...]:
    """Return all tasks of this folder that declare a kind."""
    subclasses = _subclasses(poslab.tasks, Task)  # type: ignore[type-abstract]
    return tuple(task for task in subclasses if "kind" in vars(task))


@cache
def models() -> tuple[type[Model], ...]:
    """Return the models of Poslab itself by name, those that declare capabilities."""
    classes = (model for model in _subclasses(poslab.models, Model) if model.__module__.startswith("poslab.models."))
    capable = (model for model in classes if hasattr(model, "capabilities"))
    return tuple(sorted(capable, key=lambda model: model.__name__))


def _subclasses(package: ModuleType, of: type[T]) -> Iterator[type[T]]:
    """Yield the subclasses of a class after an import of all modules of a package."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    yield from _derived(of)


def _derived(of: type[T]) -> Iterator[type[T]]:
    for derived in of.__subclasses__():
        yield derived
        yield from _derived(derived)


def snake(name: str) -> str:
    """Return the name of a class as conf/ writes it: `EncoderDecoder` is `encoder_decoder`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
