"""Copying of a string once or twice, of one word that repeats, and with another word in its place."""

import numpy as np

from poslab.data.algorithmic.strings import draw, numbered
from poslab.data.algorithmic.task import AlgorithmicTask, AtLeastTwo, Example

NEXT = "[NEXT]"


class Copy(AlgorithmicTask):
    """A random string of words, again.

        w7 w0 w98 w7  ->  w7 w0 w98 w7

    `length` is the number of input words, at least 1, and of output words. The paper's text is "Copy: Q 0 ! Q" and,
    after a separator, "Q 0 ! Q"; its words are characters and others that are tokens of T5.

    Args:
        num_words: different words, at least 2 (paper: 100).

    Source: Kazemnejad et al. (NeurIPS 2023), table 1; in the authors' code, `copy_multi_char`.
    """

    num_words: AtLeastTwo = 100

    @property
    def words(self) -> tuple[str, ...]:
        """The words of strings."""
        return numbered(self.num_words, "w")

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.words

    def example(self, length: int, generator: np.random.Generator) -> Example:
        string = self.string(length, generator)
        return Example(string, self.output(string))

    def string(self, length: int, generator: np.random.Generator) -> tuple[str, ...]:
        """Draw an input."""
        return draw(self.words, length, generator)

    def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
        """Return the right output for an input."""
        return string


class CopyTwice(Copy):
    """A random string of words, twice, with a mark between.

        w7 w0 w98  ->  w7 w0 w98 [NEXT] w7 w0 w98

    `length` is the number of input words; the output has twice as many and the mark. All else is as in `Copy`; in the
    authors' code, `copy_multi_char_2x`.
    """

    @property
    def symbols(self) -> tuple[str, ...]:
        return *self.words, NEXT

    def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
        return *string, NEXT, *string


class CopyOneWord(Copy):
    """A random word that repeats, equally often again, which takes counting.

        w7 w7 w7  ->  w7 w7 w7

    `length` is the number of input words, and of output words. All else is as in `Copy`; in the authors' code,
    `repeat_single_char`, with as many words as examples of a length, about 6,000.
    """

    def string(self, length: int, generator: np.random.Generator) -> tuple[str, ...]:
        return draw(self.words, 1, generator) * length


class CopyOneWordTwice(CopyOneWord):
    """A random word that repeats, twice as often.

        w7 w7 w7  ->  w7 w7 w7 w7 w7 w7

    `length` is the number of input words; the output has twice as many. All else is as in `CopyOneWord`; in the
    authors' code, `repeat_single_2x_char`.
    """

    def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
        return string * 2


class ReplaceWord(Copy):
    """A random word that repeats, with another in its place.

        replace w7 with w3 in w7 w7 w7  ->  w3 w3 w3

    `length` is the number of words to be replaced, and of output words; the input has five more. The paper's text is
    "Replace 7 with 3 in 7 7 7" and, after a separator, "3 3 3". All else is as in `Copy`; in the authors' code,
    `repeat_double_char`, with all pairs of 82 words.
    """

    @property
    def symbols(self) -> tuple[str, ...]:
        return *self.words, "replace", "with", "in"

    def example(self, length: int, generator: np.random.Generator) -> Example:
        old, shift = int(generator.integers(self.num_words)), int(generator.integers(1, self.num_words))
        word, other = self.words[old], self.words[(old + shift) % self.num_words]
        return Example(("replace", word, "with", other, "in", *[word] * length), (other,) * length)
