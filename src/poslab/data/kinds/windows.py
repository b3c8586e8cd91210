"""Windows of a text: B windows of U = T + 1 tokens, the T of a window and the one that follows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from poslab.data.kinds.kind import Kind

WINDOWS = Kind("text")
"""Successive tokens of a text, cut into windows of equal length."""


class TextWindows(NamedTuple):
    """Windows as a task gets them.

    Args:
        tokens: token ids, (B, U), any integer dtype.
        numbers: of the windows, B; random choices in a window are a function of its number.
        earlier: token ids of the text before each window, (B, E); None where nobody reads them.
    """

    tokens: np.ndarray
    numbers: Sequence[int]
    earlier: np.ndarray | None = None
