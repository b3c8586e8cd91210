"""The base class of all sources of pictures. Dimension letters: N pictures, H height, W width, C values of a pixel."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np

from poslab.data.bounds import require_integer
from poslab.data.kinds.patched import PICTURES
from poslab.data.patched.source import PatchedSource

MAX_PATCHES, MAX_PIXELS = 256, 2048
"""Most patches and most pixels of a side."""


class PictureSource(PatchedSource):
    """A source of pictures of several classes, which are cut into square patches, the tokens of a model.

    A picture is brought to a size, its `side`: a square one has this side, and another one keeps its shape as nearly as
    whole patches allow, and has at most as many of them. The patch stays the same, so a larger side is more tokens.

    Args:
        side: in pixels, of the pictures of training and validation; 1 to 256 times `patch`, and at most 2048 (default
            28).
        sides: of the pictures of the test, each of which has all its pictures at each side; `side` is added. None is
            half as many patches along a side as in training, rounded up, twice and four times as many, up to the same
            limit (default None).
        patch: side of a patch in pixels, at least 1 (default 4).
        others: those of `PatchedSource`; a square picture has the most patches.
    """

    side: int = 28
    sides: Sequence[int] | None = None
    patch: int = 4

    kind = PICTURES
    axes: ClassVar[tuple[str, ...]] = ("height", "width")
    length_means = "side of a picture in pixels"

    def __post_init__(self) -> None:
        require_integer("patch", self.patch, least=1, most=MAX_PIXELS)
        for name, sides in (("side", [self.side]), ("sides", self.sides or ())):
            for side in sides:
                require_integer(name, side, least=1)
                self.require_length(name, side)
        super().__post_init__()

    def require_length(self, name: str, side: int) -> None:
        if side % self.patch or not 1 <= side // self.patch <= self._most_cells:
            most = self._most_cells * self.patch
            raise ValueError(f"{name} must be a multiple of patch={self.patch} up to {most} pixels, got {side}")

    @property
    def patch_sizes(self) -> tuple[int, ...]:
        return (self.patch, self.patch)

    @property
    def trained_length(self) -> int:
        return self.side

    @cached_property
    def all_lengths(self) -> list[int]:
        if self.sides is not None:
            return sorted({self.side, *self.sides})
        cells = self.side // self.patch
        of_test = {math.ceil(cells / 2), cells, 2 * cells, 4 * cells}
        return [number * self.patch for number in sorted(of_test) if number <= self._most_cells]

    @property
    def _most_cells(self) -> int:
        return min(MAX_PATCHES, MAX_PIXELS // self.patch)

    def cells_at(self, side: int) -> list[int]:
        return [side // self.patch] * 2

    def may_have(self, sizes_N2: np.ndarray, side: int) -> bool:
        cells, rest = np.divmod(sizes_N2, self.patch)
        are_few = cells.prod(-1, dtype=np.int64) <= self.patches_at(side)
        return bool((cells > 0).all() and not rest.any() and are_few.all())

    @property
    def one_trained(self) -> str:
        return f"a picture with a side of {self.side} pixels"

    def in_words(self, counts: str, channels: int) -> str:
        colours = "grey" if channels == 1 else "colour"
        patches = f"{self.patches_at(self.side)} patches of {self.patch} x {self.patch} pixels"
        return f"{counts} pictures in {colours}, {patches} at a side of {self.side}"

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


def _resized(picture_HWC: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    # The library resizes bytes in two steps that are cut off at 0 and 255 each, but numbers exactly.
    planes = (Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(picture_HWC, -1, 0))
    resized = np.stack([np.asarray(plane.resize((width, height), Image.Resampling.BICUBIC)) for plane in planes], -1)
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)
