"""Letters and digits, drawn from fonts at any side."""

import hashlib
import string
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
import PIL
from PIL import Image, ImageDraw, ImageFont

from poslab.arguments import Range
from poslab.data.cache import fingerprint
from poslab.data.columns import Splits, as_examples
from poslab.data.patched.images import ImageSource
from poslab.io.files import package_folder

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-BoldOblique", "-Oblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-BoldOblique", "-Oblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-BoldItalic", "-Italic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "BolIta", "Italic")),
    *("cmb10", "cmr10", "cmss10", "cmti10", "cmtt10"),
)
"""Fonts of matplotlib that have all characters."""

EM = (0.7, 0.9)
"""Range of the size of a font, as a share of the side. A range this narrow tells most small letters from capitals."""

Variants = Annotated[int, Range(1, 1000)]
"""Number of images of a character in a font; the most makes 1,302,000 in all."""


class Glyphs(ImageSource):
    """62 letters and digits of 21 fonts, white on black, each drawn at several sizes and positions.

    They are drawn again at each side and never resized, so a larger image has more detail. No two splits share a font;
    the upright and the slanted form of one count as two. The fonts come with matplotlib, so nothing is downloaded. Some
    capitals and small letters, such as O and o, differ only in size, and are sometimes mistaken for one another.

    Args:
        variants: images of each character in each font, which differ in size and position, 1 to 1000 (default 8).
    """

    variants: Variants = 8

    title = "glyphs"
    channels = 1

    @cached_property
    def identity(self) -> str:
        return fingerprint(map(_path, FONTS), self.variants, PIL.__version__)

    def examples(self) -> Splits:
        numbers = range(len(FONTS) * len(CHARACTERS) * self.variants)
        drawn = self.arrays(numbers, self.side)
        rows = [self._row(number) for number in numbers]
        return {
            "train": as_examples(
                content=[hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in drawn],
                label=[character for _, character in rows],
                number=list(numbers),
                document=[font for font, _ in rows],
            )
        }

    def arrays(self, numbers: Sequence[int], side: int) -> Iterator[np.ndarray]:
        for number in numbers:
            yield _drawn(*self._row(number), side, *np.random.default_rng(number).random(3))[..., None]

    def _row(self, number: int) -> tuple[str, str]:
        """Return the font and the character of a number, of which there are `variants` in a row."""
        font, character = divmod(number // self.variants, len(CHARACTERS))
        return FONTS[font], CHARACTERS[character]


def _drawn(font: str, character: str, side: int, size: float, x: float, y: float) -> np.ndarray:
    """Return a character on a square, (side, side); the last three numbers, from 0 to 1, are its size and position."""
    image = Image.new("L", (side, side))
    pen = ImageDraw.Draw(image)
    face = _face(font, side * (EM[0] + size * (EM[1] - EM[0])))
    left, top, right, bottom = pen.textbbox((0, 0), character, face)
    free = max(0, side - 1 - (right - left)), max(0, side - 1 - (bottom - top))  # a part of a pixel takes a whole one
    pen.text((x * free[0] - left, y * free[1] - top), character, 255, face)
    return np.asarray(image)


@lru_cache(maxsize=len(FONTS))
def _face(font: str, size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_path(font), size, layout_engine=ImageFont.Layout.BASIC)


def _path(font: str) -> Path:
    folder = package_folder("matplotlib")
    assert folder is not None, "matplotlib is a dependency"
    return folder / "mpl-data" / "fonts" / "ttf" / f"{font}.ttf"
