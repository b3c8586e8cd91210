"""The splits of arrays that are cut into patches."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from poslab.data.batch import Batch, Collate
from poslab.data.cache import read_facts
from poslab.data.kinds.patched import IMAGES, SOUNDS, VIDEOS
from poslab.data.loaders import RunLoader, example_loader
from poslab.data.order import BatchPlan
from poslab.data.patched.preparation import Facts, StoredArrays, prepare
from poslab.data.run_data import Collating, DataSplits
from poslab.data.tokenizers import SymbolTokenizer, Tokenizer


class PatchedSplits(DataSplits):
    """Arrays and their classes; the test has all of its arrays at each length.

    Validation is only at the training length, so that no state of a model is chosen by its results at another one.

    Attributes:
        facts: counts and measurements of the arrays, and their classes.
    """

    tokenizer: Tokenizer

    def __init__(self, source: Any) -> None:
        self.source = source
        self.length_means = source.length_means
        self.tokenizer = SymbolTokenizer(source.symbols)
        self._stored: dict[tuple[str, int], StoredArrays] = {}
        self.folder = prepare(source, self.longest_trained)
        self.facts = read_facts(self.folder, Facts)
        self.state = {"prepared": self.folder.name}  # the name changes with the arrays

    @property
    def longest_trained(self) -> int:
        return self.source.trained_length

    def lengths_of(self, split: str, max_length: int | None) -> list[int]:
        lengths = self.lengths if split == "test" else [self.longest_trained]
        return [n for n in lengths if max_length is None or self.source.tokens_at(n) <= max_length]

    @property
    def lengths(self) -> Sequence[int]:
        return self.source.all_lengths

    def training_batches(
        self, task: Collating, plan: BatchPlan, draws_independently: bool, num_earlier: int
    ) -> RunLoader:
        batches = self._batches("train", self.longest_trained, task)
        return example_loader(batches, batches.num_tokens, plan, self.source, draws_independently)

    @property
    def num_rows(self) -> int | None:
        return len(self.stored("train", self.longest_trained))

    def held_out(self, split: str, length: int, task: Collating, max_length: int | None) -> "ArrayBatches":
        self.source.require_length("lengths", length)
        return self._batches(split, length, task)

    def identity(self, split: str, length: int) -> str:
        return f"{prepare(self.source, length).name}/{split}@{length}"

    def report_lines(self, max_length: int | None) -> list[str]:
        facts, source = self.facts, self.source
        counts = ", ".join(f"{count:,} {name}" for name, count in facts.num_examples.items())
        lines = [f"{source.title}: {source.in_words(counts, facts.channels)}"]
        if source.kind in (IMAGES, SOUNDS, VIDEOS):
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
            arrays = StoredArrays(folder, split, len(source.patch_sizes), self.facts.channels, source.dtype)
            self._stored[split, length] = arrays
        return self._stored[split, length]

    def labels(self, split: str, length: int) -> np.ndarray:
        """Return the numbers of the classes of the arrays that a split has at a length, (N,)."""
        return self.stored(split, length).labels

    def _batches(self, split: str, length: int, task: Collating) -> "ArrayBatches":
        return ArrayBatches(self.stored(split, length), self.source, self.facts.classes, task.collate)


class ArrayBatches:
    """Batches of arrays by number; numbers from their count on are rows that do not count.

    Args:
        stored: the arrays.
        source: of the arrays.
        names: of the classes, or tokens of the captions, in the order of their numbers.
        collate: makes a batch of the columns `array` and `label`.
    """

    def __init__(self, stored: StoredArrays, source: Any, names: Sequence[Any], collate: Collate) -> None:
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

    @property
    def longest(self) -> int:
        return int(self.num_tokens.max())

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
