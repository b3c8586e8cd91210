"""Sources of images, and their files, read within bounds.

Dimension letters: N images, H height, W width, C channels.
"""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from poslab.arguments import Count, Range
from poslab.data.patched.arrays import IMAGES, PIXELS, ArrayKind
from poslab.data.patched.files import FolderArrays, HubArrays
from poslab.data.patched.source import PatchedSource
from poslab.io.files import require_regular
from poslab.io.terminal import one_line

MAX_PATCHES, MAX_PIXELS = 256, 2048  # most patches and most pixels of a side

FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
MAX_FILE_PIXELS = 50_000_000  # most pixels of a file; a few bytes can ask for any number


class ImageSource(PatchedSource):
    """A source of images of several classes, which are cut into square patches, the tokens of a model.

    An image is brought to a size, its `side`: a square one has this side, and another one keeps its shape as nearly as
    whole patches allow, and has at most as many of them. The patch stays the same, so a larger side is more tokens.

    Args:
        side: in pixels, of the images of training and validation; 1 to 256 times `patch`, and at most 2048 (default
            28).
        sides: of the images of the test, each of which has all its images at each side; `side` is added. None is
            half as many patches along a side as in training, rounded up, twice and four times as many, up to the same
            limit (default None).
        patch: side of a patch in pixels, at least 1 (default 4).
        others: as in `PatchedSource`; a square image has the most patches.
    """

    side: Count = 28
    sides: Sequence[Count] | None = None
    patch: Annotated[int, Range(1, MAX_PIXELS)] = 4

    kind = IMAGES
    axes: ClassVar[tuple[str, ...]] = ("height", "width")
    length_means = "side of an image in pixels"

    def __post_init__(self) -> None:
        self.require_length("side", self.side)
        for side in self.sides or ():
            self.require_length("sides", side)
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

    def at_side(self, image_HWC: np.ndarray, side: int) -> np.ndarray:
        """Return an image of bytes at a side, resized bicubically in float32 without aliasing, and rounded to bytes.

        Of n patches that a square has, an image H high and W wide has floor(sqrt(n H / W)) rows of
        floor(sqrt(n W / H)), at least one of either.
        """
        most, (height, width) = self.patches_at(side), image_HWC.shape[:2]
        rows, columns = (
            min(most, max(1, math.isqrt(most * this // other))) for this, other in ((height, width), (width, height))
        )
        size = rows * self.patch, columns * self.patch
        if size == (height, width):
            return image_HWC
        # The library resizes bytes in two steps that are cut off at 0 and 255 each, but numbers exactly.
        planes = (Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(image_HWC, -1, 0))
        resized = [np.asarray(plane.resize(size[::-1], Image.Resampling.BICUBIC)) for plane in planes]
        return np.clip(np.rint(np.stack(resized, -1)), 0, 255).astype(np.uint8)


class HubImages(ImageSource, HubArrays):
    """PNG, JPEG, GIF and WebP files in a column of a data set on the Hub, and a column of their classes."""

    image: str = "image"

    title = "hub_images"
    file_argument = "image"
    file_type = "Image"
    column_arguments = ("image", "label")

    @cached_property
    def channels(self) -> int:
        return channels_of(file for split in self.examples().values() for file, _ in self.files(split["number"]))

    def arrays(self, numbers: Sequence[int], side: int) -> Iterator[np.ndarray]:
        for file, name in self.files(numbers):
            yield self.at_side(read_image(self.file_argument, file, self.channels, name), side)


class ImageFolder(HubImages, FolderArrays):
    """PNG, JPEG, GIF and WebP files in a folder, as of `FolderArrays`.

    They are grey if all files are, else in colour. Transparent pixels become white, and of an animation the first frame
    is read.
    """

    title = "images"
    folder_format = "imagefolder"


class Pixels(HubImages):
    """Images as text: each pixel is one of a few levels of grey, row after row.

    An image of n pixels has n tokens. Classes are not learned.

    Args:
        levels: of grey, evenly spaced, 2 to 256 (default 16).
        patch: 1, since a token is a pixel.

    Source: Chen et al., "Generative Pretraining from Pixels" (2020), without its colours.
    """

    batch_size: Count = 16
    side: Count = 14
    sides: Sequence[Count] = (7, 14, 28)
    patch: Literal[1] = 1
    levels: Annotated[int, Range(2, 256)] = 16

    title = "pixels"
    kind: ClassVar[ArrayKind] = PIXELS
    channels = 1

    @property
    def symbols(self) -> Sequence[str]:
        return [str(level) for level in range(self.levels)]

    def levels_of(self, image: np.ndarray) -> np.ndarray:
        """Return the level of each byte x, floor(x levels / 256), as int64 of the same shape."""
        return image.astype(np.int64) * self.levels // 256


def read_image(argument: str, file: Path | BytesIO, channels: int, name: str | None = None) -> np.ndarray:
    """Return the image of a file, (H, W, channels) uint8, upright; transparent pixels are white.

    Args:
        argument: name of the argument that names the file, with which messages start.
        file: path of a PNG, JPEG, GIF or WebP file, or its contents.
        channels: 1 for grey; 3 for red, green and blue.
        name: of the file in messages; None is its path.

    Raises:
        ValueError: for a file that is damaged, is none of these, has more than 50 million pixels, or is grey in more
            than 8 bits; colours of more bits are rounded to 8.
    """
    try:
        if isinstance(file, Path):
            require_regular(file)
        # The library warns of a large image where it does not refuse it, and of many a small flaw.
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_FILE_PIXELS:
                raise ValueError(f"it has {opened.width:,} x {opened.height:,} pixels")
            if opened.mode.startswith(("I", "F")):
                raise ValueError("it has more than 8 bits in a value")
            image = ImageOps.exif_transpose(opened)
    except Exception as error:  # whatever the library meets in a file that is not as it should be
        is_another = isinstance(error, UnidentifiedImageError)
        reason = f"it is not {', '.join(FORMATS)}" if is_another else one_line(str(error))
        named = repr(str(file)) if name is None else name
        raise ValueError(f"{argument} must contain whole images, but {named} is not one: {reason}") from error
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def channels_of(files: Iterable[Path | BytesIO]) -> int:
    """Return the number of channels: 1 if all images are grey, else 3."""
    for file in files:
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as opened:
                if opened.mode not in ("1", "L"):
                    return 3
        except Exception:  # as above; `read_image` raises an error for it
            return 3
    return 1
