"""Plots of pages as small PNG files."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image


def save(figure: Figure, path: Path, colours: int) -> None:
    """Write a plot in at most so many colours (to 256), always with the same bytes, and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn)
    pyplot.close(figure)
    Image.open(drawn).convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
