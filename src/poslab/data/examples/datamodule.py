"""The batches of a run over examples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import DataLoader

from poslab.data.batch import Batch, Collate
from poslab.data.cache import SPLITS, read_facts
from poslab.data.examples.preparation import Facts, prepare
from poslab.data.examples.source import ExampleSource
from poslab.data.loaders import RunLoader, example_loader
from poslab.data.order import BatchPlan
from poslab.data.overlap import STRING_BYTES
from poslab.data.run_data import HELD_OUT, RunData
from poslab.data.tokenizers import load_tokenizer

if TYPE_CHECKING:
    from datasets import Dataset


class ExampleDataModule(RunData):
    """Examples of a task, those of a batch of about the same length.

    The lengths of the evaluation are halves, quarters ... of `sequence_length` and twice, four times ... as much: each
    example counts at the least of them that it does not exceed.

    Args:
        source: the examples and their settings.
        joined: True reads the texts of a pair as one.

    Attributes after `setup`, beside those of `RunData`:
        facts: counts and measurements of the examples, and their classes.
    """

    facts: Facts

    length_means = "most tokens of its examples"

    def __init__(self, source: ExampleSource, joined: bool = False) -> None:
        super().__init__(source)
        self.source = source
        self.joined = joined
        self._examples: dict[str, Dataset] = {}
        self._lengths: dict[str, np.ndarray] = {}

    def prepare_data(self) -> None:
        prepare(self.source, self.joined)

    def setup(self, stage: str | None = None) -> None:
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
        """Return the examples of a split, after `setup`."""
        return self._examples[split]

    def state_dict(self) -> dict[str, Any]:
        """Return the name of the prepared examples, which changes with them, for a checkpoint."""
        return {"prepared": self._prepared}

    def lengths_of(self, split: str) -> list[int]:
        return [length for length in self._lengths_of_all(split) if len(self.numbers(split, length))]

    @property
    def lengths_asked(self) -> Sequence[int]:
        return self._lengths_of_all("test")

    def _lengths_of_all(self, split: str) -> list[int]:
        return [int(length) for length in np.unique(self._upper_lengths(split))]

    def training_batches(self, plan: BatchPlan) -> RunLoader:
        lengths = self._lengths["train"]
        batches = self._batches("train", np.arange(len(lengths)), self.task.columns)
        return example_loader(batches, lengths, plan, self.source, self.draws_independently)

    @property
    def num_rows(self) -> int | None:
        return len(self._lengths["train"])

    def held_out(self, split: str, length: int) -> "ExampleBatches":
        if length not in (known := self._lengths_of_all(split)):
            raise ValueError(f"lengths must be among {', '.join(map(str, known))}, which {split} has, got {length:,}")
        return self._batches(split, self.numbers(split, length), (*self.task.columns, *self.task.measured_columns))

    def identity(self, split: str, length: int) -> str:
        return f"{self._prepared}/{split}@{length}"

    def evaluation_loader(self, split: str, length: int) -> DataLoader[Batch]:
        batches = self.held_out(split, length)
        return self.loader_of_all(batches, len(batches.chosen), length)

    def num_examples(self, split: str) -> dict[int, int]:
        return {length: len(self.numbers(split, length)) for length in self.lengths_of(split)}

    def numbers(self, split: str, length: int) -> np.ndarray:
        """Return the numbers of the examples of a split that count at this length and fit the model."""
        chosen = self._upper_lengths(split) == length
        return np.flatnonzero(chosen if self.max_length is None else chosen & (self._lengths[split] <= self.max_length))

    def report_lines(self) -> list[str]:
        facts, source = self.facts, self.source
        counts = ", ".join(f"{facts.num_examples[name]:,} {name}" for name in SPLITS)
        lines = [f"{source.title}: {counts} examples ({source.tokenizer}, {self.vocab_size:,} tokens)"]
        shared = ", ".join(f"{100 * share:.2f} % of {name}" for name, share in facts.overlap.items())
        near = ", ".join(f"{count:,} of {of:,} in {name}" for name, (count, of) in facts.near_duplicates.items() if of)
        line = f"overlap with training: {shared} ({STRING_BYTES}-byte strings)"
        lines.append(
            f"{line}; examples of at least {STRING_BYTES} bytes that overlap by half: {near}" if near else line
        )
        if facts.classes:
            shown = ", ".join(facts.classes[:8]) + (", ..." if len(facts.classes) > 8 else "")
            lines.append(f"{len(facts.classes)} classes: {shown}")
        limit = f"{source.sequence_length:,}"
        if source.longest > source.sequence_length and any(facts.left_out[split] for split in HELD_OUT):
            limit += f" (train) or {source.longest:,}"
        losses = {f"cut after {source.longest:,}": facts.cut, f"left out after {limit}": facts.left_out}
        if (most := self.max_length) is not None:
            past = {split: int((self._lengths[split] > most).sum()) for split in HELD_OUT}
            losses[f"left out where the encoding ends, after {most:,}"] = past
        for what, counted in losses.items():
            if some := ", ".join(f"{count:,} of {name}" for name, count in counted.items() if count):
                lines.append(f"{what} tokens: {some}")
        return lines

    def _batches(self, split: str, chosen: np.ndarray, columns: Sequence[str]) -> "ExampleBatches":
        return ExampleBatches(self._examples[split], self._lengths[split], chosen, self.task.collate, columns)

    def _upper_lengths(self, split: str) -> np.ndarray:
        """Return the length at which each example is evaluated."""
        length = self.source.sequence_length
        limits = sorted({*(length >> shift for shift in range(4)), *(length << shift for shift in range(1, 12))} - {0})
        return np.array(limits)[np.searchsorted(limits, self._lengths[split])]


class ExampleBatches:
    """Batches of examples by number.

    Args:
        examples: all of a split.
        lengths: tokens of each of them.
        chosen: those that are numbered 0, 1, ...; larger numbers are rows that do not count.
        collate: makes a batch.
        columns: the columns to read, since texts take long to decode.
    """

    def __init__(
        self, examples: "Dataset", lengths: np.ndarray, chosen: np.ndarray, collate: Collate, columns: Sequence[str]
    ) -> None:
        self.examples = examples.select_columns(list(columns))
        self.num_tokens = lengths[chosen]
        self.chosen = chosen
        self.collate = collate

    def __getitems__(self, numbers: Sequence[int]) -> Batch:
        within = np.minimum(numbers, len(self.chosen) - 1)
        return self.collate(self.examples[self.chosen[within].tolist()], np.asarray(numbers) < len(self.chosen))
