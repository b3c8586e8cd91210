"""The batches of a run over arrays that are cut into patches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from poslab.data.batch import Batch, Collate
from poslab.data.cache import read_facts
from poslab.data.kinds.patched import PICTURES, SOUNDS, VIDEOS
from poslab.data.loaders import RunLoader, example_loader
from poslab.data.order import BatchPlan
from poslab.data.patched.preparation import Facts, StoredArrays, prepare
from poslab.data.patched.source import PatchedSource
from poslab.data.run_data import RunData
from poslab.data.tokenizers import SymbolTokenizer


class PatchedDataModule(RunData):
    """Arrays and their classes; the test has all of its arrays at each length.

    Validation is at the length of training alone, so that no state of a model is chosen by its results at another one.

    Attributes after `setup`, beside those of `RunData`:
        facts: counts and measurements of the arrays, and their classes.
    """

    facts: Facts

    def __init__(self, source: PatchedSource) -> None:
        super().__init__(source)
        self.source = source
        self.length_means = source.length_means
        self.tokenizer = SymbolTokenizer(source.symbols)
        self.vocab_size = self.tokenizer.vocab_size
        self._stored: dict[tuple[str, int], StoredArrays] = {}

    def prepare_data(self) -> None:
        for length in sorted({self.source.stored_length(length) for length in self.lengths_asked}):
            prepare(self.source, length)

    def setup(self, stage: str | None = None) -> None:
        folder = prepare(self.source, self.longest_trained)
        self.facts = read_facts(folder, Facts)
        self._prepared = folder.name

    def state_dict(self) -> dict[str, Any]:
        """Return the name of the prepared arrays, which changes with them, for a checkpoint."""
        return {"prepared": self._prepared}

    @property
    def longest_trained(self) -> int:
        return self.source.trained_length

    def lengths_of(self, split: str) -> list[int]:
        lengths = self.lengths_asked if split == "test" else [self.longest_trained]
        return [n for n in lengths if self.max_length is None or self.source.tokens_at(n) <= self.max_length]

    @property
    def lengths_asked(self) -> Sequence[int]:
        return self.source.all_lengths

    def training_batches(self, plan: BatchPlan) -> RunLoader:
        batches = self._batches("train", self.longest_trained)
        return example_loader(batches, batches.num_tokens, plan, self.source, self.draws_independently)

    @property
    def num_rows(self) -> int | None:
        return len(self.stored("train", self.longest_trained))

    def held_out(self, split: str, length: int) -> "ArrayBatches":
        self.source.require_length("lengths", length)
        return self._batches(split, length)

    def identity(self, split: str, length: int) -> str:
        return f"{prepare(self.source, length).name}/{split}@{length}"

    def evaluation_loader(self, split: str, length: int) -> DataLoader[Batch]:
        batches = self.held_out(split, length)
        return self.loader_of_all(batches, len(batches.num_tokens), int(batches.num_tokens.max()))

    def report_lines(self) -> list[str]:
        facts, source = self.facts, self.source
        counts = ", ".join(f"{count:,} {name}" for name, count in facts.num_examples.items())
        lines = [f"{source.title}: {source.in_words(counts, facts.channels)}"]
        if source.kind in (PICTURES, SOUNDS, VIDEOS):
            shown = ", ".join(facts.classes[:8]) + (", ..." if len(facts.classes) > 8 else "")
            most = f"the most frequent one is {self.most_frequent(self.longest_trained):.1f} % of the test"
            lines.append(f"{len(facts.classes)} classes: {shown}; {most}")
        return lines

    def most_frequent(self, length: int) -> float:
        """Return the share of the most frequent class of the test at a length in per cent; 0 without arrays."""
        of_test = self.labels("test", length)
        return 100 * float(np.bincount(of_test, minlength=1).max()) / max(1, len(of_test))

    def stored(self, split: str, length: int) -> StoredArrays:
        """Return the arrays of a split on the disk, at a length."""
        if (split, length) not in self._stored:
            folder, source = prepare(self.source, length), self.source
            own = StoredArrays(folder, split, len(source.patch_sizes), self.facts.channels, source.dtype)
            self._stored[split, length] = own
        return self._stored[split, length]

    def labels(self, split: str, length: int) -> np.ndarray:
        """Return the numbers of the classes of the arrays that a split has at a length, (N,)."""
        return self.stored(split, length).labels

    def _batches(self, split: str, length: int) -> "ArrayBatches":
        return ArrayBatches(self.stored(split, length), self.source, self.facts.classes, self.task.collate)


class ArrayBatches:
    """Batches of arrays by number; numbers from their count on are rows that do not count.

    Args:
        stored: the arrays.
        source: of the arrays.
        names: of the classes, or tokens of the captions, in the order of their numbers.
        collate: makes a batch of the columns `array` and `label`.
    """

    def __init__(self, stored: StoredArrays, source: PatchedSource, names: Sequence[Any], collate: Collate) -> None:
        self.stored = stored
        self.source = source
        self.labels = stored.labels
        self.names = names
        self.collate = collate

    @property
    def num_tokens(self) -> np.ndarray:
        """Patches of each array, (N,)."""
        cells_NA = self.source.cells_of(self.stored.sizes)
        return cells_NA.prod(-1, dtype=np.int64)

    def __getitems__(self, numbers: Sequence[int]) -> Batch:
        within = [min(number, len(self.labels) - 1) for number in numbers]
        return self.batch(within, [self.array(n) for n in within], np.asarray(numbers) < len(self.labels))

    def array(self, number: int) -> np.ndarray:
        """Return an array by its number."""
        return self.stored[number]

    def batch(self, numbers: Sequence[int], arrays: Sequence[np.ndarray], counts: np.ndarray) -> Batch:
        """Return the batch of arrays that have the classes of these numbers, False in `counts` where one does not."""
        labels = [self.names[label] for label in self.labels[numbers]]
        return self.collate({"array": arrays, "label": labels}, counts)
