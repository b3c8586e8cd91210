"""The base class of all sources of arrays that are cut into patches, and their splits.

Dimension letters: N arrays, A axes, C channels.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from poslab.arguments import Count
from poslab.data import cache
from poslab.data.patched.arrays import (
    IMAGES,
    SOUNDS,
    VIDEOS,
    ArrayFacts,
    ArrayKind,
    StoredArrays,
    write_arrays,
)
from poslab.data.preparation import make_tokenizer, tokenizer_settings
from poslab.data.source import HELD_OUT, SPLITS, Collating, DataSplits, HeldOut, Natural, Share, Source
from poslab.data.splitting import RowSource, random_order
from poslab.data.tokenizers import SymbolTokenizer, Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from poslab.data.batch import Batch, Collate
    from poslab.data.order import BatchPlan

# Raise it with every change of the arrays that come of the same source: old ones are then not found.
VERSION = 2


class PatchedSource(RowSource):
    """A source of arrays of several classes, such as images, which are cut into patches, the tokens of a model.

    The test is at several lengths, such as sides of an image. The patch stays the same, so more length is more tokens.

    Args:
        sequence_length: at least the patches of a training array.
        grid: patches of a training array on each axis, for hyperparameters of encodings that follow it; None is a
            whole one's.
        test_examples: the most arrays of validation and of test, drawn at random and the same for all seeds, at least
            1; None is all of them (default 2000).
    """

    batch_size: Count = 64
    validation_fraction: Share = 0.1
    test_fraction: Share = 0.1
    sequence_length: Natural
    grid: Sequence[Count] | None = None
    test_examples: Count | None = 2000
    kind: ClassVar[ArrayKind]

    length_means: ClassVar[str]  # meaning of its lengths
    patch_unit: ClassVar[str] = "pixels"  # unit of the sides of a patch
    dtype: ClassVar[str] = "uint8"  # type of the values on the disk

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.grid_trained) != len(self.axes):
            raise ValueError(f"grid must be patches on the axes {', '.join(self.axes)}, got {list(self.grid_trained)}")

    def check(self) -> None:
        """Raise ValueError for mistakes on the disk, and for a `sequence_length` below the patches of an array."""
        super().check()
        if (most := self.most_tokens_trained) > self.sequence_length:
            more = most - self.patches_at(self.trained_length)
            text = f" and {more} tokens of text" if more else ""
            raise ValueError(
                f"sequence_length must be at least {most}, the patches of a training example{text} (its "
                f"{self.length_means} is {self.trained_length}), got {self.sequence_length}"
            )

    def prepare(self, joined: bool = False) -> None:
        for length in sorted({self.stored_length(length) for length in self.all_lengths}):
            self.prepare_at(length)

    def prepare_at(self, length: int) -> Path:
        """Write the held-out arrays at a length, and at the training length all of them, unless they are there.

        Returns their folder; ValueError if all arrays for training are empty.
        """
        self.check()
        length = self.stored_length(length)
        settings = {
            "version": VERSION,
            "deduplicate": self.deduplicate,
            "test_examples": self.test_examples,
            "form": self.form(length),
            **(tokenizer_settings(self) if isinstance(self, Source) else {}),
        }
        folder = self.prepared_folder(**settings)
        if cache.verify_or_discard(folder, partial(self._check_arrays, length)):
            return folder
        splits = self.split_examples()
        classes = self.kind.labels(splits)
        number_of = {name: number for number, name in enumerate(classes)}
        counts: dict[str, int] = {}
        mean, deviation = list[float](), list[float]()
        with cache.new_folder(folder) as temporary:
            for name in self._splits_at(length):
                rows = splits[name]
                if name in HELD_OUT and self.test_examples is not None:
                    rows = rows.select(sorted(random_order(len(rows))[: self.test_examples]))
                moments = write_arrays(temporary, name, self.arrays(list(rows["number"]), length), self.channels)
                np.array([number_of[label] for label in rows["label"]], np.int32).tofile(temporary / f"{name}.labels")
                counts[name] = len(rows)
                if name == "train":
                    mean, deviation = moments
                    if not mean:
                        raise ValueError(
                            f"dataset={self.title} must have {self.kind.name}s for training, and all are empty"
                        )
            if isinstance(self, Source):
                make_tokenizer(self, iter([splits["train"]["label"][:]])).save(temporary)
            cache.write_facts(temporary, ArrayFacts(counts, classes, self.channels, mean, deviation))
        return folder

    def open(self, joined: bool = False) -> PatchedSplits:
        return PatchedSplits(self)

    def _splits_at(self, length: int) -> tuple[str, ...]:
        """Return the splits that there are at a length."""
        return SPLITS if length == self.trained_length else HELD_OUT

    def _check_arrays(self, length: int, folder: Path) -> None:
        """Raise ValueError unless prepared arrays, classes and moments are as the facts say, and sizes are possible."""
        if isinstance(self, Source):
            load_tokenizer(folder)
        splits, facts = self._splits_at(length), cache.read_facts(folder, ArrayFacts)
        cache.require_splits(splits, facts.num_examples)
        num_moments = facts.channels if "train" in splits else 0
        is_right = facts.channels in (1, 3) and len(facts.mean) == len(facts.deviation) == num_moments
        is_right &= all(map(math.isfinite, facts.mean)) and len(facts.classes) > 1
        is_right &= all(0 < deviation < math.inf for deviation in facts.deviation)
        for name in splits:
            try:
                stored = StoredArrays(folder, name, len(self.patch_sizes), facts.channels, self.dtype)
            except (OSError, ValueError) as error:
                raise ValueError(f"{folder} does not contain arrays: {error}") from error
            is_right &= len(stored) == len(stored.labels) == facts.num_examples[name] > 0
            is_right = is_right and stored.ends[-1] == len(stored.values) and self.may_have(stored.sizes, length)
            is_right &= bool(((stored.labels >= 0) & (stored.labels < len(facts.classes))).all())
        if not is_right:
            raise ValueError(f"{folder} does not contain what {cache.FACTS} says")

    @property
    def most_tokens_trained(self) -> int:
        """The most tokens of an example of training."""
        return self.tokens_at(self.trained_length)

    @property
    def grid_trained(self) -> Sequence[int]:
        """The patches of an array of training on each axis."""
        return self.cells_at(self.trained_length) if self.grid is None else self.grid

    def patches_at(self, length: int) -> int:
        """Return the most patches of an array at a length."""
        return math.prod(self.cells_at(length))

    def tokens_at(self, length: int) -> int:
        """Return the most tokens of an example at a length: patches, and tokens of a text about them."""
        return self.patches_at(length)

    @property
    def symbols(self) -> Sequence[str]:
        """Names of its tokens, in the order of their numbers; none where these are patches or text."""
        return []

    def cells_of(self, sizes: np.ndarray) -> np.ndarray:
        """Return the patches on each of `axes` of arrays of these sizes, (..., A).

        An axis that one patch fills, as frequency may be, is not among `axes`, and comes before them.
        """
        cells: np.ndarray = sizes // np.array(self.patch_sizes)
        return cells[..., -len(self.axes) :]

    def form(self, length: int) -> list[int]:
        """Return the settings that decide which arrays are written at a length, in addition to `identity`."""
        return [length, self.trained_length, *self.patch_sizes]

    def stored_length(self, length: int) -> int:
        """Return the length at which the arrays of a length are on the disk; here each has its own."""
        return length

    @property
    @abstractmethod
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of the positions of patches, the outermost first."""

    @property
    @abstractmethod
    def patch_sizes(self) -> tuple[int, ...]:
        """The sides of a patch, on all axes of an array."""

    @property
    @abstractmethod
    def trained_length(self) -> int:
        """The training length, also of validation."""

    @property
    @abstractmethod
    def all_lengths(self) -> list[int]:
        """The lengths of the test, ascending, with the training length."""

    @abstractmethod
    def require_length(self, name: str, length: int) -> None:
        """Raise ValueError, starting with a name, for a length that patches do not fill, or too many do."""

    @abstractmethod
    def cells_at(self, length: int) -> list[int]:
        """Return the patches of a whole array at a length, on each of `axes`."""

    @abstractmethod
    def may_have(self, sizes_NA: np.ndarray, length: int) -> bool:
        """Return whether arrays on the disk may be of these sizes, at a length."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """The number of channels, such as 3 of a pixel in red, green and blue."""

    @abstractmethod
    def arrays(self, numbers: Sequence[int], length: int) -> Iterator[np.ndarray]:
        """Yield arrays by their column `number`, in an order that is given, at a length.

        They are (n_1, ..., n_A, C) of `dtype`; errors are as in `examples`.
        """


class PatchedSplits(DataSplits):
    """Arrays and their classes; the test has all of its arrays at each length.

    Validation is only at the training length, so that no state of a model is chosen by its results at another one.
    """

    source: PatchedSource

    def __init__(self, source: PatchedSource) -> None:
        self.source = source
        self.length_means = source.length_means
        self.tokenizer: Tokenizer = SymbolTokenizer(source.symbols)
        self._stored: dict[tuple[str, int], StoredArrays] = {}
        self.folder = source.prepare_at(self.longest_trained)
        self.facts = cache.read_facts(self.folder, ArrayFacts)
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

    def training_batches(self, task: Collating, plan: BatchPlan) -> Iterable[Batch]:
        batches = self._batches("train", self.longest_trained, task)
        return self.source.example_loader(batches, batches.num_tokens, plan)

    @property
    def num_rows(self) -> int | None:
        return len(self.stored("train", self.longest_trained))

    def held_out(self, split: str, length: int, task: Collating, max_length: int | None) -> ArrayBatches:
        self.source.require_length("lengths", length)
        return self._batches(split, length, task)

    def identity(self, split: str, length: int) -> str:
        return f"{self.source.prepare_at(length).name}/{split}@{length}"

    def report_lines(self, max_length: int | None) -> list[str]:
        facts, source = self.facts, self.source
        counts = ", ".join(f"{count:,} {name}" for name, count in facts.num_examples.items())
        name = source.kind.name if source.kind in (SOUNDS, VIDEOS) else "image"
        colours = "" if source.kind is SOUNDS else " in grey" if facts.channels == 1 else " in colour"
        patch = f"{' x '.join(map(str, source.patch_sizes))} {source.patch_unit}"
        length, count = self.longest_trained, source.patches_at(self.longest_trained)
        lines = [
            f"{source.title}: {counts} {name}s{colours}, {count} patches of {patch} where the "
            f"{self.length_means} is {length}"
        ]
        if source.kind in (IMAGES, SOUNDS, VIDEOS):
            shown = ", ".join(facts.classes[:8]) + (", ..." if len(facts.classes) > 8 else "")
            most = f"the most frequent one is {self.most_frequent(self.longest_trained):.1f}% of the test"
            lines.append(f"{len(facts.classes)} classes: {shown}; {most}")
        return lines

    def most_frequent(self, length: int) -> float:
        """Return the share of the most frequent class of the test at a length in per cent; 0 without arrays."""
        of_test = self.labels("test", length)
        return 100 * float(np.bincount(of_test, minlength=1).max()) / max(1, len(of_test))

    def stored(self, split: str, length: int) -> StoredArrays:
        """Return the arrays of a split on the disk, at a length."""
        if (split, length) not in self._stored:
            folder, source = self.source.prepare_at(length), self.source
            arrays = StoredArrays(folder, split, len(source.patch_sizes), self.facts.channels, source.dtype)
            self._stored[split, length] = arrays
        return self._stored[split, length]

    def labels(self, split: str, length: int) -> np.ndarray:
        """Return the numbers of the classes of the arrays that a split has at a length, (N,)."""
        return self.stored(split, length).labels

    def _batches(self, split: str, length: int, task: Collating) -> ArrayBatches:
        return ArrayBatches(self.stored(split, length), self.source, self.facts.classes, task.collate)


@dataclass(eq=False)
class ArrayBatches(HeldOut):
    """Batches of arrays, in the columns `array` and `label`; numbers from their count on are rows that do not count.

    `names` are of the classes, or tokens of the captions, in the order of their numbers.
    """

    stored: StoredArrays
    source: PatchedSource
    names: Sequence[Any]
    collate: Collate

    @property
    def labels(self) -> np.ndarray:
        """Numbers of the classes of the arrays, (N,)."""
        return self.stored.labels

    @property
    def num_tokens(self) -> np.ndarray:
        """Tokens of each example, (N,): patches, and tokens of a caption without its end."""
        num_patches_N: np.ndarray = self.source.cells_of(self.stored.sizes).prod(-1, dtype=np.int64)
        written = [0 if isinstance(name, str) else len(name) - 1 for name in self.names]
        return num_patches_N + np.array(written)[self.labels]

    def __getitems__(self, numbers: Sequence[int]) -> Batch:
        within = [min(number, len(self.labels) - 1) for number in numbers]
        return self.batch(within, [self.array(n) for n in within], np.asarray(numbers) < len(self.labels))

    def array(self, number: int) -> np.ndarray:
        return self.stored[number]

    def batch(self, numbers: Sequence[int], arrays: Sequence[np.ndarray], counts: np.ndarray) -> Batch:
        """Return the batch of arrays that have the classes of these numbers, False in `counts` where one does not."""
        labels = [self.names[label] for label in self.labels[numbers]]
        return self.collate({"array": arrays, "label": labels}, counts)
