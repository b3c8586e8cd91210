"""A user's own pictures, in one folder for each class."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from poslab.data.examples.columns import Splits, as_examples
from poslab.data.examples.fingerprint import fingerprint
from poslab.data.paths import files_of_classes, require_content, require_regular
from poslab.data.pictures.source import PictureSource
from poslab.data.source import require_text
from poslab.io.terminal import one_line

FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
MOST_PIXELS = 50_000_000
"""Most pixels of a file; a few bytes can ask for any number."""


class PictureFolder(PictureSource):
    """PNG, JPEG, GIF and WebP files in one folder for each class, which has its name.

    They are grey if all files are, else in colour; transparent places become white, and of an animation the first
    picture counts. Equal files are one. Links are followed.

    Args:
        path: folder that holds the folders of the classes.
        others: those of `PictureSource`.
    """

    path: str | None = None

    title = "pictures"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_text("path", self.path)

    def check(self) -> None:
        super().check()
        for path in self._files:
            require_content("path", path, "pictures")

    @cached_property
    def identity(self) -> str:
        return fingerprint(self._files, [path.parent.name for path in self._files])

    @cached_property
    def channels(self) -> int:
        return channels_of(self._files)

    def examples(self) -> Splits:
        return {
            "train": as_examples(
                content=[fingerprint([path]) for path in self._files],
                label=[path.parent.name for path in self._files],
                number=list(range(len(self._files))),
            )
        }

    def arrays(self, numbers: Sequence[int], side: int) -> Iterator[np.ndarray]:
        for number in numbers:
            yield self.at_side(read_picture("path", self._files[number], self.channels), side)

    @cached_property
    def _files(self) -> list[Path]:
        """The pictures of all classes, in order of their paths; ValueError for a class without one."""
        assert self.path is not None
        return files_of_classes("path", self.path, SUFFIXES, "pictures")


def read_picture(argument: str, path: Path, channels: int) -> np.ndarray:
    """Return the picture of a file, (H, W, channels) uint8, upright; transparent places are white.

    Args:
        argument: name of the argument that names the file, for messages.
        path: of a PNG, JPEG, GIF or WebP file.
        channels: 1 for grey; 3 for red, green and blue.

    Raises:
        ValueError: one sentence that begins with `argument`, for a file that is damaged, is none of these, has more
            than 50 million pixels, or more than 8 bits in a value.
    """
    try:
        require_regular(path)
        # The library warns of a large picture where it does not refuse it, and of many a small flaw.
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as file:
            if file.width * file.height > MOST_PIXELS:
                raise ValueError(f"it has {file.width:,} x {file.height:,} pixels")
            if file.mode.startswith(("I", "F")):
                raise ValueError("it has more than 8 bits in a value")
            picture = ImageOps.exif_transpose(file)
    except Exception as error:  # whatever the library meets in a file that is not as it should be
        reason = one_line(str(error))
        raise ValueError(f"{argument} must hold whole pictures, but {str(path)!r} is not one: {reason}") from error
    if picture.has_transparency_data:
        colours = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def channels_of(paths: Iterable[Path]) -> int:
    """Return the numbers of a pixel: 1 if all pictures are grey, else 3."""
    return 1 if all(_mode(path) in ("1", "L") for path in paths) else 3


def _mode(path: Path) -> str:
    """Return the mode of a picture, without its pixels; that of one that cannot be read is found out later."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as file:
            return file.mode
    except Exception:  # as above
        return ""
