"""Windows of a text."""

from typing import NamedTuple

import numpy as np

from poslab.data.kinds.kind import Kind

WINDOWS = Kind("text")
"""Successive tokens of a text, cut into windows of equal length."""


class TextWindows(NamedTuple):
    """Windows as a task gets them: B windows of U = T + 1 tokens, those of a window and the one that follows.

    Args:
        tokens: token ids, (B, U), any integer dtype.
        numbers: of the windows, B: what is random in one is a function of its number.
    """

    tokens: np.ndarray
    numbers: list[int]
