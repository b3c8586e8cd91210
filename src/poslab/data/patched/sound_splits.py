"""The splits of sounds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from poslab.data.batch import Batch, Collate
from poslab.data.loaders import RunLoader, training_loader
from poslab.data.order import BatchPlan, ExampleOrder
from poslab.data.patched.patched_splits import ArrayBatches, PatchedSplits
from poslab.data.patched.preparation import StoredArrays
from poslab.data.run_data import Collating


class SoundSplits(PatchedSplits):
    """Sounds and their classes, cropped to a length; the test has at each length the sounds that are that long.

    A crop of training begins at a frame that follows from the seed and the index in the stream of training.
    """

    source: Any

    def __init__(self, source: Any) -> None:
        """Open the prepared sounds; ValueError if a split has none that is long enough."""
        super().__init__(source)
        for split in self.facts.num_examples:
            if not self._num_fitting(split, self.longest_trained):
                raise ValueError(
                    f"seconds must be at most the duration of some sounds of {split}, got {self.source.seconds}"
                )

    def lengths_of(self, split: str, max_length: int | None) -> list[int]:
        return [length for length in super().lengths_of(split, max_length) if self._num_fitting(split, length)]

    def training_batches(
        self, task: Collating, plan: BatchPlan, draws_independently: bool, num_earlier: int
    ) -> RunLoader:
        source, crops = self.source, self._batches("train", self.longest_trained, task)
        repeat = source.batch_size if source.overfit else None
        order = ExampleOrder(crops.num_tokens, source.batch_size, source.seed, repeat)
        return training_loader(TrainingCrops(crops, order), plan, list, source.num_workers)

    @property
    def num_rows(self) -> int | None:
        return None  # crops are not a fixed set

    def report_lines(self, max_length: int | None) -> list[str]:
        counts = (
            f"{self._num_fitting('test', length):,} of {length} frames, {self.most_frequent(length):.1f} %"
            for length in self.lengths
        )
        what = "sounds of the test that are long enough, and their most frequent class"
        return [*super().report_lines(max_length), f"{what}: {'; '.join(counts)}"]

    def stored(self, split: str, length: int) -> StoredArrays:
        """Return the whole sounds of a split, which serve all lengths."""
        return super().stored(split, self.longest_trained)

    def labels(self, split: str, length: int) -> np.ndarray:
        stored = self.stored(split, length)
        return stored.labels[stored.sizes[:, 0] >= length]

    def _num_fitting(self, split: str, length: int) -> int:
        return int((self.stored(split, length).sizes[:, 0] >= length).sum())

    def _batches(self, split: str, length: int, task: Collating) -> "CropBatches":
        stored = self.stored(split, length)
        return CropBatches(stored, self.source, self.facts.classes, task.collate, length)


class CropBatches(ArrayBatches):
    """Batches of the sounds that have a length, cropped to it at their beginning.

    Args:
        stored: the sounds, (frames, bins, 1) each.
        source, classes, collate: as of `ArrayBatches`.
        length: in frames.
    """

    def __init__(
        self, stored: StoredArrays, source: Any, classes: Sequence[str], collate: Collate, length: int
    ) -> None:
        super().__init__(stored, source, classes, collate)
        self.fitting = np.flatnonzero(stored.sizes[:, 0] >= length)
        self.labels = stored.labels[self.fitting]
        self.length = length

    @property
    def num_tokens(self) -> np.ndarray:
        return np.full(len(self.fitting), self.source.tokens_at(self.length))

    def array(self, number: int, offset: float = 0.0) -> np.ndarray:
        """Return a crop, (bins, frames, 1); `offset`, from 0 to 1, is where it begins in the sound."""
        whole = self.stored[self.fitting[number]]
        first = int(offset * (len(whole) - self.length + 1))
        return whole[first : first + self.length].swapaxes(0, 1)


class TrainingCrops:
    """Batches of training by successive indices of its stream.

    Args:
        crops: the sounds.
        order: the sounds by index.
    """

    def __init__(self, crops: CropBatches, order: ExampleOrder) -> None:
        self.crops = crops
        self.order = order

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        numbers = self.order.items(range(indices[0], indices[-1] + 1))
        draws = indices if self.order.repeat is None else [index % self.order.repeat for index in indices]
        begins = [np.random.default_rng([self.order.seed, index]).random() for index in draws]
        arrays = [self.crops.array(number, begin) for number, begin in zip(numbers, begins, strict=True)]
        return self.crops.batch(numbers, arrays, np.full(len(numbers), True))
