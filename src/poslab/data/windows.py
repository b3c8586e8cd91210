"""Windows of a token file as batches, gathered in one indexing operation each.

Dimension letters: B windows, T tokens of a window, U = T + 1 (its tokens and the one that follows), E tokens before it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from poslab.data.batch import Batch, Collate
from poslab.data.cache import TokenFile


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


def num_windows(tokens: TokenFile, length: int) -> int:
    """Return the number of windows that do not overlap, the last of which may be shorter."""
    return -(-(len(tokens) - 1) // length)


class Windows:
    """Windows of a token file, with a length in tokens."""

    def __init__(self, tokens: TokenFile, length: int, collate: Collate) -> None:
        self.tokens = tokens
        self.length = length
        self.collate = collate


class TrainingWindows(Windows):
    """Windows anywhere in a token file, numbered by their first token.

    Args:
        tokens, length, collate: as of `Windows`.
        num_earlier: E, tokens before each window that a batch has too. The end of the file stands before its beginning,
            as one document before another.
    """

    def __init__(self, tokens: TokenFile, length: int, collate: Collate, num_earlier: int = 0) -> None:
        super().__init__(tokens, length, collate)
        self.num_earlier = num_earlier

    def __getitems__(self, starts: Sequence[int]) -> Batch:
        first_B1 = np.asarray(starts)[:, None]
        index_BU = first_B1 + np.arange(self.length + 1)
        index_BE = (first_B1 + np.arange(-self.num_earlier, 0)) % len(self.tokens)
        earlier = self.tokens.ids[index_BE] if self.num_earlier else None
        windows = TextWindows(self.tokens.ids[index_BU], starts, earlier)
        return self.collate(windows, np.ones_like(index_BU, dtype=bool))


class EvaluationWindows(Windows):
    """The non-overlapping windows of a token file, by number. Together they hold each token but the first as a target.

    The last window is filled up with tokens that do not count, and every window past it consists of them.
    """

    def __len__(self) -> int:
        return num_windows(self.tokens, self.length)

    @property
    def longest(self) -> int:
        """Tokens of each window."""
        return self.length

    @property
    def num_tokens(self) -> np.ndarray:
        return np.full(len(self), self.length)

    def __getitems__(self, numbers: Sequence[int]) -> Batch:
        return self.batch(numbers, numbers)

    def batch(self, places: Sequence[int], numbers: Sequence[int]) -> Batch:
        """Return the windows at some places, by whose numbers a task makes its random choices."""
        index_BU = self.length * np.asarray(places)[:, None] + np.arange(self.length + 1)
        last = len(self.tokens) - 1
        return self.collate(TextWindows(self.tokens.ids[np.minimum(index_BU, last)], numbers), index_BU <= last)


class DrawnWindows(EvaluationWindows):
    """The same windows by numbers of draws, as `IndependentOrder.draws` has them: no two steps share one."""

    def __getitems__(self, draws: Sequence[int]) -> Batch:
        return self.batch([draw % (len(self) + 1) for draw in draws], draws)
