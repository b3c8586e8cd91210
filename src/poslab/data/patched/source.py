"""The base class of all sources of arrays that are cut into patches.

Dimension letters: N arrays, A axes, C channels, T patches, P values of a patch.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from poslab.arguments import Count
from poslab.data.examples.columns import Splits
from poslab.data.kinds.patched import PatchedArrays
from poslab.data.source import Natural, PreparedSource, Share

if TYPE_CHECKING:
    from poslab.data.patched.patched_splits import PatchedSplits


class PatchedSource(PreparedSource):
    """A source of arrays of several classes, such as images, which are cut into patches, the tokens of a model.

    The test is at several lengths, such as sides of an image. The patch stays the same, so more length is more tokens.

    Args:
        sequence_length: at least the patches of a training array; the training length for hyperparameters of encodings
            that follow it.
        grid: patches of a training array on each axis, for hyperparameters of encodings that follow it; None is those
            of a whole one.
        test_examples: the most arrays of validation and of test, drawn at random and the same for all seeds, at least
            1; None is all of them (default 2000).
        deduplicate: drop arrays that equal an earlier one, and those of training that equal one held out (default
            true).
        others: those of `PreparedSource`.
    """

    batch_size: Count = 64
    validation_fraction: Share = 0.1
    test_fraction: Share = 0.1
    sequence_length: Natural
    grid: Sequence[Count] | None = None
    test_examples: Count | None = 2000
    deduplicate: bool = True

    kind: ClassVar[PatchedArrays]

    length_means: ClassVar[str]
    """Meaning of its lengths."""

    dtype: ClassVar[str] = "uint8"
    """Type of the values on the disk."""

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
                f"sequence_length must be at least {most}, the patches of {self.one_trained}{text}, "
                f"got {self.sequence_length}"
            )

    def prepare(self, joined: bool = False) -> None:
        from poslab.data.patched.preparation import prepare

        for length in sorted({self.stored_length(length) for length in self.all_lengths}):
            prepare(self, length)

    def open(self, joined: bool = False) -> "PatchedSplits":
        from poslab.data.patched.patched_splits import PatchedSplits

        return PatchedSplits(self)

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
        """Return the most tokens of an example at a length: patches, and those of a text about them."""
        return self.patches_at(length)

    @property
    def symbols(self) -> Sequence[str]:
        """Names of its tokens, in the order of their numbers; none where these are patches or text."""
        return []

    def cells_of(self, sizes: np.ndarray) -> np.ndarray:
        """Return the patches on each of `axes` of arrays of these sizes, (..., A).

        An axis that one patch fills, as that of frequency may be, is not among `axes`, and comes before them.
        """
        cells: np.ndarray = sizes // np.array(self.patch_sizes)
        return cells[..., -len(self.axes) :]

    def form(self, length: int) -> list[int]:
        """Return the settings that decide which arrays are written at a length, in addition to `identity`."""
        return [length, self.trained_length, *self.patch_sizes]

    def stored_length(self, length: int) -> int:
        """Return the length at which arrays are on the disk that serve a length; here each serves itself."""
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
        """The length of training and validation."""

    @property
    @abstractmethod
    def all_lengths(self) -> list[int]:
        """The lengths of the test, ascending, with that of training."""

    @abstractmethod
    def require_length(self, name: str, length: int) -> None:
        """Raise ValueError, beginning with a name, for a length that patches do not fill, or too many do."""

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

    @property
    @abstractmethod
    def one_trained(self) -> str:
        """An array of training in words, such as `an image with a side of 28 pixels`."""

    @abstractmethod
    def in_words(self, counts: str, channels: int) -> str:
        """Return a line for people on what there is, given the number of arrays of each split, and `channels`."""

    @abstractmethod
    def examples(self) -> Splits:
        """Return the arrays by split, with the columns of their kind: `train`, and any held-out split of its own.

        Raises:
            ValueError: one sentence that begins with the argument to change, if they cannot be read.
        """

    @abstractmethod
    def arrays(self, numbers: Sequence[int], length: int) -> Iterator[np.ndarray]:
        """Yield arrays by their column `number`, in an order that is given, at a length.

        They are (n_1, ..., n_A, C) of `dtype`; errors are those of `examples`.
        """


def patches_of(array: np.ndarray, patch: Sequence[int]) -> np.ndarray:
    """Return the patches of an array, (T, P), in the order of rows: the last axis counts fastest.

    Args:
        array: (n_1, ..., n_A, C), such as an image, whose axes are height and width.
        patch: sides of a patch, A integers, of each of which n is a multiple. P is their product times C.
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
    scaled: np.ndarray = (patches_TP - mean_P) / deviation_P
    return scaled
