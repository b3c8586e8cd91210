"""The data of a run, whatever its source, as the learner and the console see it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import lightning.pytorch as pl
import numpy as np
from torch.utils.data import DataLoader

from poslab.data.batch import Batch
from poslab.data.tokenizers import Tokenizer

HELD_OUT = ("validation", "test")


class Collating(Protocol):
    """The part of a task that data needs."""

    def collate(self, rows: Any, counts: np.ndarray) -> Batch:
        """Return a batch, as `Task.collate` does."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of examples that a batch is made of."""

    @property
    def measured_columns(self) -> tuple[str, ...]:
        """The columns that are needed beside them where a model is measured."""


class RunData(pl.LightningDataModule, ABC):
    """The batches of a run.

    The trainer must leave batches as they are: `Trainer(max_steps=..., use_distributed_sampler=False)`.

    Attributes after `setup`:
        tokenizer: the tokenizer.
        vocab_size: number of its token ids.

    Raises:
        ValueError: one sentence that begins with the name of the argument to change.
    """

    tokenizer: Tokenizer
    vocab_size: int

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.max_length: int | None = None
        self._task: Collating | None = None

    def connect(self, task: Collating, max_length: int | None) -> None:
        """Learn what is known once the data is set up: its batches can be made only then.

        Args:
            task: makes the batches.
            max_length: what is longer is left out of the evaluation, for a model whose positions end there; None leaves
                out nothing.
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
        """Open what was prepared."""

    @property
    @abstractmethod
    def training_length(self) -> int:
        """The most tokens of a window or example that is trained on."""

    @property
    def longest_trained(self) -> int:
        """The most that is trained on, in the measure of `lengths_of`."""
        return self.training_length

    @abstractmethod
    def lengths_of(self, split: str) -> list[int]:
        """The lengths of the loaders of a held-out split, ascending: tokens of a window, or the most of an example."""

    def num_examples(self, split: str) -> dict[int, int]:
        """Return how many examples of a held-out split have each length; none of text, of which lengths are windows."""
        return {}

    @abstractmethod
    def evaluation_loader(self, split: str, length: int) -> DataLoader[Any]:
        """The batches of a held-out split at one of its lengths."""

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """One loader for each length of `validation`."""
        return [self.evaluation_loader("validation", length) for length in self.lengths_of("validation")]

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """One loader for each length of `test`."""
        return [self.evaluation_loader("test", length) for length in self.lengths_of("test")]

    @property
    def lengths_asked(self) -> Sequence[int]:
        """The lengths at which test figures are shown; some may have none."""
        return self.lengths_of("test")

    @abstractmethod
    def report_lines(self) -> list[str]:
        """What a person should know of the data before training, in a few lines."""

    def rows(self, length: int, count: int) -> int:
        """Rows of an evaluation batch: as many tokens as training has in a micro-batch, so that what trains fits.

        Args:
            length: tokens of a row.
            count: rows in all.
        """
        assert self.trainer is not None
        shares = self.trainer.world_size * self.trainer.accumulate_grad_batches
        fitting = self.batch_size * self.training_length // (length * shares)
        return max(1, min(fitting, -(-count // self.trainer.world_size)))
