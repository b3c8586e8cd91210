"""The base class of all sources of pictures. Dimension letters: H height, W width, C numbers of a pixel."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np

from poslab.data.bounds import require_integer
from poslab.data.examples.columns import Splits
from poslab.data.kinds.pictures import PICTURES, Pictures
from poslab.data.source import PreparedSource

MOST_PATCHES, MOST_PIXELS = 256, 2048
"""Most patches and most pixels of a side."""


class PictureSource(PreparedSource):
    """A source of pictures of several classes, which are cut into square patches, the tokens of a model.

    A picture is brought to a size, its `side`: a square one has this side, and another one keeps its shape as nearly as
    whole patches allow, and has at most as many of them. The patch stays the same, so a larger side is more tokens.

    Args:
        side: in pixels, of the pictures of training and validation; 1 to 256 times `patch`, and at most 2048 (default
            28).
        sides: of the pictures of the test, each of which has all its pictures at each side; `side` is added.
        patch: side of a patch in pixels, at least 1 (default 4).
        sequence_length: at least the patches of a training picture; the training length for hyperparameters of
            encodings that follow it.
        grid: rows and columns of the patches of a training picture, for hyperparameters of encodings that follow it;
            None is those of a square picture.
        test_examples: the most pictures of validation and of test, drawn at random and the same for all seeds, at least
            1; None is all of them (default 2000).
        deduplicate: drop pictures that equal an earlier one, and those of training that equal one held out (default
            true).
        others: those of `PreparedSource`.
    """

    batch_size: int = 64
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    side: int = 28
    sides: Sequence[int] = (16, 28, 56, 112)
    patch: int = 4
    sequence_length: int
    grid: Sequence[int] | None = None
    test_examples: int | None = 2000
    deduplicate: bool = True

    kind: ClassVar[Pictures] = PICTURES

    axes: ClassVar[tuple[str, ...]] = ("height", "width")
    """Names of the axes on which its tokens have places, of which `grid` has the sizes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("patch", self.patch, least=1, most=MOST_PIXELS)
        for name, sides in (("side", [self.side]), ("sides", self.sides)):
            for side in sides:
                require_integer(name, side, least=1)
                self.require_whole(name, side)
        if self.test_examples is not None:
            require_integer("test_examples", self.test_examples, least=1)
        require_integer("sequence_length", self.sequence_length, least=0)
        for size in self.grid_trained:
            require_integer("grid", size, least=1)
        if len(self.grid_trained) != len(self.axes):
            raise ValueError(f"grid must have a size for {' and '.join(self.axes)}, got {list(self.grid_trained)}")

    def check(self) -> None:
        """Raise ValueError for mistakes on the disk, and for a `sequence_length` below the patches of a picture."""
        super().check()
        if (most := self.most_tokens_trained) > self.sequence_length:
            more = most - self.patches_at(self.side)
            text = f" and {more} tokens of text" if more else ""
            raise ValueError(
                f"sequence_length must be at least {most}, the patches of a picture with a side of {self.side} pixels"
                f"{text}, got {self.sequence_length}"
            )

    def require_whole(self, name: str, side: int) -> None:
        """Raise ValueError, beginning with a name, for a side that patches do not fill, or too many do."""
        most = min(MOST_PATCHES, MOST_PIXELS // self.patch)
        if side % self.patch or not 1 <= side // self.patch <= most:
            raise ValueError(f"{name} must be 1 to {most} times patch={self.patch} pixels, got {side}")

    @property
    def most_tokens_trained(self) -> int:
        """The most tokens of an example of training."""
        return self.tokens_at(self.side)

    @property
    def grid_trained(self) -> Sequence[int]:
        """Rows and columns of the patches of a picture of training."""
        return [self.side // self.patch] * 2 if self.grid is None else self.grid

    def patches_at(self, side: int) -> int:
        """Return the most patches of a picture at a side, those of a square one."""
        return (side // self.patch) ** 2

    def tokens_at(self, side: int) -> int:
        """Return the most tokens of an example at a side: patches, and those of a text about them."""
        return self.patches_at(side)

    def at_side(self, picture_HWC: np.ndarray, side: int) -> np.ndarray:
        """Return a picture of bytes at a side, resized bicubically in float32 without aliasing, and rounded to bytes.

        Of n patches that a square has, a picture H high and W wide has floor(sqrt(n H / W)) rows of
        floor(sqrt(n W / H)), at least one of either.
        """
        most, (height, width) = self.patches_at(side), picture_HWC.shape[:2]
        rows, columns = (
            min(most, max(1, math.isqrt(most * one // other))) for one, other in ((height, width), (width, height))
        )
        size = rows * self.patch, columns * self.patch
        return picture_HWC if size == (height, width) else _resized(picture_HWC, *size)

    @property
    def symbols(self) -> Sequence[str]:
        """Names of its tokens, in the order of their numbers; none where these are patches or text."""
        return []

    @property
    @abstractmethod
    def channels(self) -> int:
        """The numbers of a pixel: 1 of grey pictures, 3 of red, green and blue."""

    @abstractmethod
    def examples(self) -> Splits:
        """Return the pictures by split, with the columns of their kind: `train`, and any held-out split of its own.

        Raises:
            ValueError: one sentence that begins with the argument to change, if they cannot be read.
        """

    @abstractmethod
    def pictures(self, numbers: Sequence[int], side: int) -> Iterator[np.ndarray]:
        """Yield pictures by their column `number`, in an order that is given, at a side.

        They are (H, W, C) uint8, of whole patches; errors are those of `examples`.
        """

    @cached_property
    def all_sides(self) -> list[int]:
        """The sides of the test, ascending."""
        return sorted({self.side, *self.sides})


def _resized(picture_HWC: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    # The library resizes bytes in two steps that are cut off at 0 and 255 each, but numbers exactly.
    planes = (Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(picture_HWC, -1, 0))
    resized = np.stack([np.asarray(plane.resize((width, height), Image.Resampling.BICUBIC)) for plane in planes], -1)
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)
