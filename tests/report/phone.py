"""Sizes of the labels of pictures on a phone."""

from __future__ import annotations

from matplotlib.text import Text

from poslab.report.figures import Plot

ROOM = 358
"""Pixels that a page of 390 leaves to a picture, which shrinks to them unless it is one to move over."""


def smallest_label(picture: Plot) -> float:
    """The height of the smallest text of a picture, in pixels."""
    picture.figure.draw_without_rendering()
    width = 100 * picture.figure.get_size_inches()[0]
    shrunk = min(1.0, ROOM / width) if picture.shrinks else 1.0
    texts = [text for text in picture.figure.findobj(Text) if text.get_text().strip()]
    return min(text.get_fontsize() for text in texts) * 100 / 72 * shrunk
