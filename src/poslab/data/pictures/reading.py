"""Files of pictures, read within bounds. Dimension letters: H height, W width."""

import warnings
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from poslab.data.paths import require_regular
from poslab.io.terminal import one_line

FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
MAX_PIXELS = 50_000_000
"""Most pixels of a file; a few bytes can ask for any number."""


def read_picture(argument: str, file: Path | BytesIO, channels: int, name: str | None = None) -> np.ndarray:
    """Return the picture of a file, (H, W, channels) uint8, upright; transparent places are white.

    Args:
        argument: name of the argument that names the file, for messages.
        file: path of a PNG, JPEG, GIF or WebP file, or its contents.
        channels: 1 for grey; 3 for red, green and blue.
        name: of the file in messages; None is its path.

    Raises:
        ValueError: one sentence that begins with `argument`, for a file that is damaged, is none of these, has more
            than 50 million pixels, or is grey in more than 8 bits; those of colours are rounded to 8.
    """
    try:
        if isinstance(file, Path):
            require_regular(file)
        # The library warns of a large picture where it does not refuse it, and of many a small flaw.
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise ValueError(f"it has {opened.width:,} x {opened.height:,} pixels")
            if opened.mode.startswith(("I", "F")):
                raise ValueError("it has more than 8 bits in a value")
            picture = ImageOps.exif_transpose(opened)
    except Exception as error:  # whatever the library meets in a file that is not as it should be
        is_another = isinstance(error, UnidentifiedImageError)
        reason = f"it is not {', '.join(FORMATS)}" if is_another else one_line(str(error))
        named = repr(str(file)) if name is None else name
        raise ValueError(f"{argument} must hold whole pictures, but {named} is not one: {reason}") from error
    if picture.has_transparency_data:
        colours = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def channels_of(files: Iterable[Path | BytesIO]) -> int:
    """Return the numbers of a pixel: 1 if all pictures are grey, else 3."""
    return 1 if all(_mode(file) in ("1", "L") for file in files) else 3


def _mode(file: Path | BytesIO) -> str:
    """Return the mode of a picture, without its pixels; that of one that cannot be read is found out later."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as opened:
            return opened.mode
    except Exception:  # as above
        return ""
