"""Texts of which answers are spans."""

import numpy as np


class Context:
    """A text and the characters of each of its tokens.

    Args:
        text: the whole.
        first: place of its first token in the input of the model.
        places: (N, 2), the characters of each of its tokens: from, to.
    """

    def __init__(self, text: str, first: int, places: np.ndarray) -> None:
        self.text = text
        self.first = first
        self.places = places

    def between(self, first: int, last: int) -> str:
        """Return the text from one token to another, by their places in the input; empty before the context.

        A token may begin with the space before its word, which is not part of an answer.
        """
        if first < self.first:
            return ""
        return self.text[self.places[first - self.first, 0] : self.places[last - self.first, 1]].strip()
