"""The data of a run: the one DataModule, over the splits that a source opens.

A source has two methods, `prepare` and `open`; `open` returns its `DataSplits`, which know nothing of the trainer.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from poslab.data.batch import Batch
from poslab.data.order import BatchPlan, evaluation_batches, evaluation_loader
from poslab.data.source import Collating, DataSource, DataSplits, HeldOut
from poslab.data.tokenizers import Tokenizer


class RunData(pl.LightningDataModule):
    """The batches of a run; `joined` reads the texts of a pair as one.

    The trainer must leave batches as they are: `Trainer(max_steps=..., use_distributed_sampler=False)`.

    Attributes:
        training_length: the most tokens of a window or example of training.
        draws_independently: True if each row is in a batch with the same probability, whatever the others are.
        num_earlier: tokens before each window of training that its batch has too, for a teacher that reads them.
        processes_per_window: processes that share each window of training.
        splits: the opened data, after `setup`.
        task: makes the batches, after `connect`.
    """

    splits: DataSplits
    task: Collating

    def __init__(self, source: DataSource, joined: bool = False) -> None:
        super().__init__()
        self.source = source
        self.joined = joined
        self.batch_size = source.batch_size
        self.training_length = source.sequence_length
        self.draws_independently = False
        self.num_earlier = 0
        self.processes_per_window = 1
        self.max_length: int | None = None

    def prepare_data(self) -> None:
        self.source.prepare(self.joined)

    def setup(self, stage: str | None = None) -> None:
        """Open the data; ValueError if a split has too little to train on, unless the stage is `test`."""
        if not hasattr(self, "splits"):
            splits = self.source.open(self.joined)
            if stage != "test":
                splits.check_training(self.num_earlier)
            self.splits = splits

    def connect(self, task: Collating, max_length: int | None) -> None:
        """Set the task that makes batches, and the length beyond which the model has no positions, if any."""
        self.task = task
        self.max_length = max_length

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, after `setup`."""
        return self.splits.tokenizer

    @property
    def vocab_size(self) -> int:
        """Number of token ids, after `setup`."""
        return self.tokenizer.vocab_size

    @property
    def longest_trained(self) -> int:
        """The longest window or example of training, in the measure of `lengths_of`."""
        return self.splits.longest_trained

    def state_dict(self) -> dict[str, Any]:
        """Return what changes whenever the data does, for a checkpoint."""
        return self.splits.state

    def lengths_of(self, split: str) -> list[int]:
        """Return the lengths of a held-out split, ascending: tokens of a window, or the most of an example."""
        return self.splits.lengths_of(split, self.max_length)

    def num_examples(self, split: str) -> dict[int, int]:
        """Return the number of examples of a held-out split by length; none for text, of which lengths are windows."""
        return self.splits.num_examples(split, self.max_length)

    def held_out(self, split: str, length: int) -> HeldOut:
        """Return the items of a held-out split at a length, as of `DataSplits.held_out`."""
        return self.splits.held_out(split, length, self.task, self.max_length)

    def identity(self, split: str, length: int) -> str:
        """Return a text that is the same for all runs whose held-out items are, whatever their encoding and seed."""
        return self.splits.identity(split, length)

    def report_lines(self) -> list[str]:
        """Return a few lines on the data, for a person to read before training."""
        return self.splits.report_lines(self.max_length)

    def training_batches(self, plan: BatchPlan) -> Iterable[Batch]:
        """Return the micro-batches of training, in the order of a plan."""
        drawn = replace(plan, draws_independently=self.draws_independently, num_earlier=self.num_earlier)
        return self.splits.training_batches(self.task, drawn)

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

    def evaluation_loader(self, split: str, length: int) -> DataLoader[Any]:
        """Return the batches of a held-out split at one of its lengths, each item once over all processes.

        A batch has at most as many tokens as a micro-batch of training, so that what trains fits.
        """
        assert self.trainer is not None
        items = self.held_out(split, length)
        processes, rank = self.trainer.world_size, self.trainer.global_rank
        together = items.longest * processes * self.trainer.accumulate_grad_batches
        count = len(items.num_tokens)
        rows = max(1, min(self.batch_size * self.training_length // together, -(-count // processes)))
        return evaluation_loader(items, evaluation_batches(count, rows, processes, rank), self.source.num_workers)
