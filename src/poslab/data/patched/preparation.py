"""Write the arrays of a source to the disk: drop repeats, split, and bring them to a length.

Dimension letters: N arrays, A axes, C channels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from poslab.arguments import with_checked_arguments
from poslab.data import cache
from poslab.data.examples.splitting import split_examples
from poslab.data.preparation import make_tokenizer, tokenizer_settings
from poslab.data.run_data import HELD_OUT
from poslab.data.source import Source
from poslab.data.splitting import random_order
from poslab.data.tokenizers import load_tokenizer

# Raise it with every change of the arrays that come of the same source: old ones are then not found.
VERSION = 2


@with_checked_arguments
@dataclass(frozen=True)
class Facts:
    """Facts of prepared arrays at a length.

    Args:
        num_examples: by split; `train` is at the length of training alone.
        classes: names of the classes, or captions, in the order of their numbers.
        channels: number of channels, C.
        mean, deviation: of each channel over all arrays of training; empty at another length.
    """

    num_examples: dict[str, cache.Number]
    classes: list[str]
    channels: cache.Number
    mean: list[float]
    deviation: list[float]


class StoredArrays:
    """Arrays of a split at a length, read from the disk as they are needed.

    Args:
        folder, split: as `prepare` has them.
        num_axes: number of their axes, A.
        channels: number of channels.
        dtype: of the values.

    Attributes:
        sizes: (N, A), of each array on each axis.
        labels: (N,), numbers of their classes or captions.
    """

    def __init__(self, folder: Path, split: str, num_axes: int, channels: int, dtype: str = "uint8") -> None:
        self.channels = channels
        self.sizes = np.fromfile(folder / f"{split}.sizes", dtype=np.int32).reshape(-1, num_axes)
        self.labels = np.fromfile(folder / f"{split}.labels", dtype=np.int32)
        self._values = cache.TokenFile(folder / f"{split}.values", dtype)
        self._ends = np.cumsum(self.sizes.prod(-1, dtype=np.int64) * channels)

    @property
    def is_whole(self) -> bool:
        """True if there are as many labels and values as the sizes ask for."""
        return len(self.sizes) == len(self.labels) > 0 and self._ends[-1] == len(self._values)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, number: int) -> np.ndarray:
        """Return an array, (n_1, ..., n_A, C)."""
        shape, end = (*self.sizes[number].tolist(), self.channels), self._ends[number]
        return self._values.ids[end - math.prod(shape) : end].reshape(shape)


def prepare(source: Any, length: int) -> Path:
    """Write the held-out arrays at a length, and at that of training all of them, unless they are there.

    Returns: their folder.

    Raises: errors of `PatchedSource`; ValueError if all arrays for training are empty.
    """
    source.check()
    length = source.stored_length(length)
    folder = source.cache / f"{source.title}-{cache.key(_settings(source, length))}"
    if cache.verify_or_discard(folder, partial(_check, source, length)):
        return folder
    splits = split_examples(source)
    classes = source.kind.labels(splits)
    number_of = {name: number for number, name in enumerate(classes)}
    counts: dict[str, int] = {}
    mean, deviation = list[float](), list[float]()
    with cache.new_folder(folder) as temporary:
        for name in splits_at(source, length):
            rows = splits[name]
            if name in HELD_OUT and source.test_examples is not None:
                rows = rows.select(sorted(random_order(len(rows))[: source.test_examples]))
            sums = _write(temporary, name, source, length, list(rows["number"]))
            np.array([number_of[label] for label in rows["label"]], np.int32).tofile(temporary / f"{name}.labels")
            counts[name] = len(rows)
            if name == "train":
                if not sums[0].any():
                    raise ValueError(
                        f"dataset={source.title} must have {source.kind.name}s for training, and all are empty"
                    )
                mean, deviation = _moments(sums)
        if isinstance(source, Source):
            make_tokenizer(source, iter([splits["train"]["label"][:]])).save(temporary)
        cache.write_facts(temporary, Facts(counts, classes, source.channels, mean, deviation))
    return folder


def splits_at(source: Any, length: int) -> tuple[str, ...]:
    """Return the splits that there are at a length."""
    return cache.SPLITS if length == source.trained_length else HELD_OUT


def _write(folder: Path, split: str, source: Any, length: int, numbers: Sequence[int]) -> np.ndarray:
    """Write arrays and their sizes; return the number, the sum and the sum of squares of their values, (3, C)."""
    sums, sizes = np.zeros((3, source.channels)), []
    with (folder / f"{split}.values").open("wb") as file:
        for array in source.arrays(numbers, length):
            file.write(np.ascontiguousarray(array).data)
            sizes.append(array.shape[:-1])
            values = array.reshape(-1, source.channels).astype(np.float64)
            sums += np.stack([np.full(source.channels, len(values)), values.sum(0), (values**2).sum(0)])
    np.array(sizes, np.int32).tofile(folder / f"{split}.sizes")
    return sums


def _moments(sums: np.ndarray) -> tuple[list[float], list[float]]:
    """Return the mean and the deviation of each channel from its number and sums, (3, C); that of one value is 1."""
    count, total, squares = sums
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean.tolist(), np.where(deviation > 0, deviation, 1).tolist()


def _check(source: Any, length: int, folder: Path) -> None:
    """Raise ValueError unless a folder holds as many arrays as it says, of sizes that they may have and its classes."""
    facts = cache.read_facts(folder, Facts)
    if isinstance(source, Source):
        load_tokenizer(folder)
    cache.require_splits(splits_at(source, length), facts.num_examples)
    moments = facts.channels if length == source.trained_length else 0
    is_right = facts.channels in (1, 3) and len(facts.mean) == len(facts.deviation) == moments
    is_right &= all(map(math.isfinite, facts.mean))
    is_right &= len(facts.classes) > 1 and all(0 < deviation < math.inf for deviation in facts.deviation)
    for name, count in facts.num_examples.items():
        try:
            stored = StoredArrays(folder, name, len(source.patch_sizes), facts.channels, source.dtype)
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder} does not hold {source.kind.name} data: {error}") from error
        is_right &= stored.is_whole and len(stored) == count and source.may_have(stored.sizes, length)
        is_right &= bool(((stored.labels >= 0) & (stored.labels < len(facts.classes))).all())
    if not is_right:
        raise ValueError(f"{folder} does not hold what {cache.FACTS} says")


def _settings(source: Any, length: int) -> dict[str, object]:
    """Return all settings that decide which arrays come out."""
    return {
        "version": VERSION,
        "source": source.identity,
        "deduplicate": source.deduplicate,
        "fractions": list(source.fractions.values()),
        "test_examples": source.test_examples,
        "form": source.form(length),
        **(tokenizer_settings(source) if isinstance(source, Source) else {}),
    }
