"""The data of a run, whatever its source."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import lightning.pytorch as pl
import numpy as np
from torch.utils.data import DataLoader

from poslab.data.batch import Batch
from poslab.data.loaders import Batches, evaluation_loader
from poslab.data.order import BatchPlan, evaluation_batches
from poslab.data.sources import AnySource
from poslab.data.tokenizers import Tokenizer

HELD_OUT = ("validation", "test")


def check_split(split: str) -> None:
    """Raise ValueError unless a split is held out from training."""
    if split not in HELD_OUT:
        raise ValueError(f"split must be {' or '.join(HELD_OUT)}, got {split}")


class HeldOut(Protocol):
    """Held-out examples or windows of one length, as batches of the items of these numbers.

    Numbers beyond the last item are rows that do not count.
    """

    @property
    def num_tokens(self) -> np.ndarray:
        """Tokens of each item, (N,), in the measure of `Model.max_length`."""

    def __getitems__(self, numbers: list[int]) -> Any: ...


class Collating(Protocol):
    """The part of a task that data needs."""

    def collate(self, rows: Any, counts: np.ndarray) -> Batch:
        """Return a batch, as `Task.collate` does."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of examples that a batch is made of."""

    @property
    def measured_columns(self) -> tuple[str, ...]:
        """The columns that an evaluation needs beside them."""


class RunData(pl.LightningDataModule, ABC):
    """The batches of a run.

    The trainer must leave batches as they are: `Trainer(max_steps=..., use_distributed_sampler=False)`.

    Args:
        source: of the data.

    Attributes:
        training_length: the most tokens of a window or example of training.

    Attributes after `setup`:
        tokenizer: the tokenizer.
        vocab_size: number of its token ids.

    Raises:
        ValueError: one sentence that begins with the name of the argument to change.
    """

    tokenizer: Tokenizer
    vocab_size: int

    draws_independently = False
    """True if each row of training is in a batch with the same probability, whatever the others are."""

    num_earlier = 0
    """Number of tokens before each window of training that its batch has too, for a teacher that reads them."""

    processes_per_window = 1
    """Number of processes that share each window of training."""

    length_means: str = "number of tokens"
    """The meaning of the lengths of `lengths_of`."""

    def __init__(self, source: AnySource) -> None:
        super().__init__()
        self.batch_size = source.batch_size
        self.num_workers = source.num_workers
        self.training_length = source.sequence_length
        self.max_length: int | None = None
        self._task: Collating | None = None

    def connect(self, task: Collating, max_length: int | None) -> None:
        """Set what follows from `setup`, before batches are made.

        Args:
            task: makes the batches.
            max_length: the evaluation leaves out longer ones, for a model whose positions end there; None leaves out
                nothing.
        """
        self._task = task
        self.max_length = max_length

    @property
    def task(self) -> Collating:
        """The task that makes batches, after `connect`."""
        assert self._task is not None
        return self._task

    @abstractmethod
    def setup(self, stage: str | None = None) -> None:
        """Open the prepared data."""

    @property
    def longest_trained(self) -> int:
        """The longest window or example of training, in the measure of `lengths_of`."""
        return self.training_length

    @property
    def num_rows(self) -> int | None:
        """Number of rows of training, after `setup`; None if they are not a fixed set."""
        return None

    @abstractmethod
    def lengths_of(self, split: str) -> list[int]:
        """Return the lengths of a held-out split, ascending: tokens of a window, or the most of an example."""

    def num_examples(self, split: str) -> dict[int, int]:
        """Return the number of examples of a held-out split by length; none for text, of which lengths are windows."""
        return {}

    @abstractmethod
    def held_out(self, split: str, length: int) -> HeldOut:
        """Return the items of a held-out split at a length, those that `max_length` leaves out aside.

        Raises:
            ValueError: beginning with `lengths`, for a length that the data does not have.
        """

    @abstractmethod
    def identity(self, split: str, length: int) -> str:
        """Return a text that is the same for all runs whose held-out items are, whatever their encoding and seed."""

    @abstractmethod
    def evaluation_loader(self, split: str, length: int) -> DataLoader[Any]:
        """Return the batches of a held-out split at one of its lengths."""

    @abstractmethod
    def training_batches(self, plan: BatchPlan) -> Iterable[Batch]:
        """Return the micro-batches of training, in the order of a plan."""

    def first_batches(self, count: int, pieces: int = 1) -> Iterable[Batch]:
        """Return the first global batches of training, each in a number of pieces, without a trainer."""
        return self.training_batches(BatchPlan(self.batch_size, accumulate=pieces, last_step=count))

    def train_dataloader(self) -> Iterable[Batch]:
        """Return the micro-batches of the whole run for this process, from the trainer's present step on."""
        assert self.trainer is not None
        return self.training_batches(BatchPlan.of(self.trainer, self.batch_size, self.processes_per_window))

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Return one loader for each length of `validation`."""
        return [self.evaluation_loader("validation", length) for length in self.lengths_of("validation")]

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """Return one loader for each length of `test`."""
        return [self.evaluation_loader("test", length) for length in self.lengths_of("test")]

    @property
    def lengths_asked(self) -> Sequence[int]:
        """The lengths of test metrics, ascending; some may have no examples."""
        return self.lengths_of("test")

    @abstractmethod
    def report_lines(self) -> list[str]:
        """Return a few lines on the data, for a person to read before training."""

    def loader_of_all(self, batches: Batches, count: int, length: int) -> DataLoader[Any]:
        """Return a loader of `count` items, each once over all processes.

        A batch has as many tokens, at `length` an item, as a micro-batch of training, so that what trains fits.
        """
        assert self.trainer is not None
        processes, rank = self.trainer.world_size, self.trainer.global_rank
        fitting = self.batch_size * self.training_length // (length * processes * self.trainer.accumulate_grad_batches)
        rows = max(1, min(fitting, -(-count // processes)))
        return evaluation_loader(batches, evaluation_batches(count, rows, processes, rank), self.num_workers)
