"""The batches of a run over examples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import DataLoader

from poslab.data.batch import Batch, Collate
from poslab.data.cache import SPLITS, read_facts
from poslab.data.examples.preparation import Facts, prepare
from poslab.data.examples.source import ExampleSource
from poslab.data.loaders import RunLoader, evaluation_loader, training_loader
from poslab.data.order import BatchPlan, ExampleOrder
from poslab.data.overlap import STRING_BYTES
from poslab.data.run_data import HELD_OUT, RunData
from poslab.data.tokenizers import load_tokenizer

if TYPE_CHECKING:
    from datasets import Dataset


class ExampleDataModule(RunData):
    """Examples of a task, those of a batch of about the same length.

    The lengths at which it evaluates are halves, quarters ... of `sequence_length` and twice, four times ... as much:
    each example counts at the least of them that it does not pass.

    Args:
        source: the examples and their settings.
        joined: whether the texts of a pair are read as one.

    Attributes after `setup`, beside those of `RunData`:
        facts: what is known of the examples.
    """

    facts: Facts

    def __init__(self, source: ExampleSource, joined: bool = False) -> None:
        super().__init__(source.batch_size)
        self.source = source
        self.joined = joined
        self._examples: dict[str, Dataset] = {}
        self._lengths: dict[str, np.ndarray] = {}

    def prepare_data(self) -> None:
        """Tokenise the examples unless that was done before."""
        prepare(self.source, self.joined)

    def setup(self, stage: str | None = None) -> None:
        """Open the examples."""
        if self._examples:
            return
        from datasets import load_from_disk

        folder = prepare(self.source, self.joined)
        self.facts = read_facts(folder, Facts)
        self.tokenizer = load_tokenizer(folder)
        self.vocab_size = self.tokenizer.vocab_size
        examples = {name: load_from_disk(str(folder / name)) for name in SPLITS}
        self._lengths = {
            name: np.minimum(np.array(examples[name]["length"], dtype=np.int64), self.source.longest) for name in SPLITS
        }
        self._examples = examples
        self._prepared = folder.name

    def examples(self, split: str) -> "Dataset":
        """The examples of a split, after `setup`."""
        return self._examples[split]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint remembers of the data: the name of the prepared examples, which changes with them."""
        return {"prepared": self._prepared}

    @property
    def training_length(self) -> int:
        """The most tokens of an example that is trained on."""
        return self.source.sequence_length

    def lengths_of(self, split: str) -> list[int]:
        """The lengths of which a held-out split has examples that the model has positions for, ascending."""
        return [length for length in self._lengths_of_all(split) if len(self.numbers(split, length))]

    @property
    def lengths_asked(self) -> Sequence[int]:
        """The lengths of which the test has examples, ascending."""
        return self._lengths_of_all("test")

    def _lengths_of_all(self, split: str) -> list[int]:
        return [int(length) for length in np.unique(self._upper_lengths(split))]

    def train_dataloader(self) -> RunLoader:
        """The micro-batches of the whole run for this process, from the trainer's present step on."""
        assert self.trainer is not None
        source = self.source
        plan = BatchPlan.of(self.trainer, source.batch_size)
        repeat = source.batch_size if source.overfit else None
        order = ExampleOrder(self._lengths["train"], source.batch_size, source.seed, repeat)
        everything = np.arange(len(self._lengths["train"]))
        batches = ExampleBatches(self._examples["train"], everything, self.task.collate, self.task.columns)
        return training_loader(batches, plan, order, source.num_workers)

    def evaluation_loader(self, split: str, length: int) -> DataLoader[Batch]:
        """The examples of a split that are of this length and of no shorter one."""
        assert self.trainer is not None
        chosen = self.numbers(split, length)
        columns = (*self.task.columns, *self.task.measured_columns)
        batches = ExampleBatches(self._examples[split], chosen, self.task.collate, columns)
        processes, rank = self.trainer.world_size, self.trainer.global_rank
        return evaluation_loader(
            batches, len(chosen), self.rows(length, len(chosen)), processes, rank, self.source.num_workers
        )

    def num_examples(self, split: str) -> dict[int, int]:
        """Return how many examples of a held-out split have each length."""
        return {length: len(self.numbers(split, length)) for length in self.lengths_of(split)}

    def numbers(self, split: str, length: int) -> np.ndarray:
        """The numbers of the examples of a split that are of this length, of no shorter one, and fit the model."""
        chosen = self._upper_lengths(split) == length
        return np.flatnonzero(chosen if self.max_length is None else chosen & (self._lengths[split] <= self.max_length))

    def report_lines(self) -> list[str]:
        """What a person should know of the data before training, in a few lines."""
        facts, source = self.facts, self.source
        counts = ", ".join(f"{facts.num_examples[name]:,} {name}" for name in SPLITS)
        lines = [f"{source.title}: {counts} examples ({source.tokenizer}, {self.vocab_size:,} tokens)"]
        shared = ", ".join(f"{share:.2%} of {name}" for name, share in facts.overlap.items())
        near = ", ".join(f"{count:,} of {of:,} in {name}" for name, (count, of) in facts.near_duplicates.items())
        lines.append(
            f"overlap with training: {shared} ({STRING_BYTES}-byte strings);"
            f" examples of at least {STRING_BYTES} bytes that overlap by half: {near}"
        )
        if facts.classes:
            shown = ", ".join(facts.classes[:8]) + (", ..." if len(facts.classes) > 8 else "")
            lines.append(f"{len(facts.classes)} classes: {shown}")
        limit = f"{source.sequence_length:,}"
        if source.longest > source.sequence_length and any(facts.left_out[split] for split in HELD_OUT):
            limit += f" (train) or {source.longest:,}"
        for what, counted in (
            (f"cut after {source.longest:,}", facts.cut),
            (f"left out after {limit}", facts.left_out),
        ):
            if some := ", ".join(f"{count:,} of {name}" for name, count in counted.items() if count):
                lines.append(f"{what} tokens: {some}")
        if self.max_length is not None:
            past = {split: int((self._lengths[split] > self.max_length).sum()) for split in HELD_OUT}
            if some := ", ".join(f"{count:,} of {name}" for name, count in past.items() if count):
                lines.append(f"left out where the encoding ends, after {self.max_length:,} tokens: {some}")
        return lines

    def _upper_lengths(self, split: str) -> np.ndarray:
        """For each example, the length at which it is evaluated."""
        length = self.source.sequence_length
        limits = sorted({*(length >> shift for shift in range(4)), *(length << shift for shift in range(1, 12))} - {0})
        return np.array(limits)[np.searchsorted(limits, self._lengths[split])]


class ExampleBatches:
    """Makes batches of examples by number.

    Args:
        examples: all of a split.
        chosen: which of them are numbered 0, 1, ...; from there on, rows do not count.
        collate: makes a batch.
        columns: what is read of each example, since texts take long to decode.
    """

    def __init__(self, examples: "Dataset", chosen: np.ndarray, collate: Collate, columns: Sequence[str]) -> None:
        self.examples = examples.select_columns(list(columns))
        self.chosen = chosen
        self.collate = collate

    def __getitems__(self, numbers: list[int]) -> Batch:
        within = np.minimum(numbers, len(self.chosen) - 1)
        return self.collate(self.examples[self.chosen[within].tolist()], np.asarray(numbers) < len(self.chosen))
