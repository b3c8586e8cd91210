"""Arrays that are cut into patches: their kinds, their files, and their patches.

Dimension letters: N arrays, A axes, C channels, T patches, P values of a patch.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from poslab.arguments import with_checked_arguments
from poslab.data import cache
from poslab.data.examples.classification import CLASSES
from poslab.data.kinds import Kind

if TYPE_CHECKING:
    from datasets import Dataset


def require_plain_names(argument: str, names: Iterable[str]) -> None:
    """Raise ValueError for names of classes that no table or line of a log can contain, or of which two look alike."""
    alike: dict[str, str] = {}
    for name in names:
        # Control characters, separators of lines, and surrogates, which represent bytes that are not UTF-8.
        if {"Cc", "Zl", "Zp", "Cs"}.intersection(map(unicodedata.category, name)):
            raise ValueError(f"{argument} must contain names in UTF-8 without control characters, got {name!r}")
        if (other := alike.setdefault(unicodedata.normalize("NFC", name.strip()), name)) != name:
            raise ValueError(f"{argument} must contain different names, but {other!a} and {name!a} look alike")


class ArrayKind(Kind):
    """Arrays, such as images, and their classes, in columns.

    `content` identifies an array: equal ones are the same, and never in two splits. `label` is its class, `number` its
    number in the source, and an optional `document` names what no two splits share, such as a font.
    """

    texts: ClassVar[tuple[str, ...]] = ("content",)
    read = ("content",)
    stratify_by: ClassVar[str | None] = "label"

    def labels(self, splits: Mapping[str, Dataset]) -> list[str]:
        """Return the different labels of all splits, sorted; ValueError, starting with `label`, for odd names."""
        names = CLASSES.labels(splits)
        require_plain_names("label", names)
        return names


IMAGES = ArrayKind("image")
SOUNDS = ArrayKind("sound")
VIDEOS = ArrayKind("video")

PIXELS = ArrayKind("pixel")  # images of which each pixel is a token; classes are not read


class CaptionKind(ArrayKind):
    """Images and their captions, in the columns of `ArrayKind`, whose `label` is the caption.

    An image may have several captions. No two splits share an image, or a caption: its `document` is the normal form
    of the caption.
    """

    texts = ("content", "label")
    stratify_by = None

    def labels(self, splits: Mapping[str, Dataset]) -> list[str]:
        """Return the different captions of all splits, sorted."""
        return sorted({caption for examples in splits.values() for caption in examples["label"]})


CAPTIONS = CaptionKind("caption")


@with_checked_arguments
@dataclass(frozen=True)
class ArrayFacts:
    """Facts of prepared arrays at a length."""

    num_examples: dict[str, cache.Number]  # by split; `train` is only at the training length
    classes: list[str]  # names of the classes, or captions, in the order of their numbers
    channels: cache.Number
    # mean, deviation: of each channel over all arrays of training; empty at another length
    mean: list[float]
    deviation: list[float]


class StoredArrays:
    """Arrays of a split, read from the disk as needed; `sizes` are (N, A), and `labels` numbers of classes, (N,)."""

    def __init__(self, folder: Path, split: str, num_axes: int, channels: int, dtype: str = "uint8") -> None:
        self.channels = channels
        self.sizes = np.fromfile(folder / f"{split}.sizes", dtype=np.int32).reshape(-1, num_axes)
        self.labels = np.fromfile(folder / f"{split}.labels", dtype=np.int32)
        self.values = cache.TokenFile(folder / f"{split}.values", dtype)
        self.ends = np.cumsum(self.sizes.prod(-1, dtype=np.int64) * channels)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, number: int) -> np.ndarray:
        """Return an array, (n_1, ..., n_A, C)."""
        shape, end = (*self.sizes[number].tolist(), self.channels), self.ends[number]
        return self.values.ids[end - math.prod(shape) : end].reshape(shape)


def write_arrays(
    folder: Path, split: str, arrays: Iterable[np.ndarray], channels: int
) -> tuple[list[float], list[float]]:
    """Write arrays and their sizes; return the mean and the deviation of each channel, 1 if its values are equal.

    Both are empty where all arrays are.
    """
    sums, sizes = np.zeros((3, channels)), []
    with (folder / f"{split}.values").open("wb") as file:
        for array in arrays:
            file.write(np.ascontiguousarray(array).data)
            sizes.append(array.shape[:-1])
            values = array.reshape(-1, channels).astype(np.float64)
            sums += np.stack([np.full(channels, len(values)), values.sum(0), (values**2).sum(0)])
    np.array(sizes, np.int32).tofile(folder / f"{split}.sizes")
    count, total, squares = sums
    if not count.any():
        return [], []
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return mean.tolist(), np.where(deviation > 0, deviation, 1).tolist()


def patches_of(array: np.ndarray, patch: Sequence[int]) -> np.ndarray:
    """Return the patches of an array (n_1, ..., n_A, C), (T, P), in the order of rows: the last axis counts fastest.

    `patch` has the sides of a patch, of each of which n is a multiple. P is their product times C.
    """
    axes = range(len(patch))
    cells = [size // side for size, side in zip(array.shape, patch, strict=False)]
    split = array.reshape(*(n for pair in zip(cells, patch, strict=True) for n in pair), -1)
    order = [*(2 * axis for axis in axes), *(2 * axis + 1 for axis in axes), 2 * len(patch)]
    return split.transpose(order).reshape(math.prod(cells), -1)


def normalised(patches_TP: np.ndarray, mean: Sequence[float], deviation: Sequence[float]) -> np.ndarray:
    """Return patches in float32, less the mean of each channel and divided by its deviation, (T, P)."""
    repeats = patches_TP.shape[-1] // len(mean)
    mean_P, deviation_P = (np.tile(np.array(x, np.float32), repeats) for x in (mean, deviation))
    return (patches_TP - mean_P) / deviation_P
