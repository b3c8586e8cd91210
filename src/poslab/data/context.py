"""A text of which answers are spans."""

import numpy as np


class Context:
    """A context whose tokens are known by place.

    Args:
        text: the whole.
        first: place of its first token in what a model reads.
        places: (N, 2), the characters that each of its tokens is of: from, to.
    """

    def __init__(self, text: str, first: int, places: np.ndarray) -> None:
        self.text = text
        self.first = first
        self.places = places

    def between(self, first: int, last: int) -> str:
        """The text from one token to another, by their places in what a model reads; nothing before the context.

        A token may begin with the space before its word, which is no part of an answer.
        """
        if first < self.first:
            return ""
        return self.text[self.places[first - self.first, 0] : self.places[last - self.first, 1]].strip()
