"""Reversing: of a string once and twice, and with the string itself behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poslab.data.algorithmic.length_generalization.copy import NEXT, Copy
from poslab.data.algorithmic.strings import draw
from poslab.data.algorithmic.task import Example


@dataclass(frozen=True)
class Reverse(Copy):
    """A random string of words backwards.

        w7 w0 w98  ->  w98 w0 w7

    `length` is the number of input words, from 1, and of output words. The paper's text is "Reverse: Q 0 !" and, behind
    a separator, "! 0 Q"; its words are characters and others that T5's tokenizer has a token for.

    Args:
        num_words: different words, from 2 (paper: 100).

    Raises:
        ValueError: for an argument out of its range.

    Source: Kazemnejad et al., "The Impact of Positional Encoding on Length Generalization in Transformers" (NeurIPS
    2023), table 1; in the authors' code, `multi_char`.
    """

    def example(self, length: int, generator: np.random.Generator) -> Example:
        string = draw(self.words, length, generator)
        return Example(string, string[::-1])


@dataclass(frozen=True)
class ReverseTwice(Copy):
    """A random string of words backwards, twice, with a mark between.

        w7 w0 w98  ->  w98 w0 w7 [NEXT] w98 w0 w7

    `length` is the number of input words, from 1; the output has twice as many and the mark. All else is as in
    `Reverse`; in the authors' code, `multi_char_2x`.
    """

    @property
    def symbols(self) -> tuple[str, ...]:
        return *self.words, NEXT

    def example(self, length: int, generator: np.random.Generator) -> Example:
        string = draw(self.words, length, generator)
        return Example(string, (*string[::-1], NEXT, *string[::-1]))


@dataclass(frozen=True)
class ReverseThenCopy(Copy):
    """A random string of words backwards, then as it is, with a mark between.

        w7 w0 w98  ->  w98 w0 w7 [NEXT] w7 w0 w98

    `length` is the number of input words, from 1; the output has twice as many and the mark. All else is as in
    `Reverse`; in the authors' code, `multi_char_rev_cop`.
    """

    @property
    def symbols(self) -> tuple[str, ...]:
        return *self.words, NEXT

    def example(self, length: int, generator: np.random.Generator) -> Example:
        string = draw(self.words, length, generator)
        return Example(string, (*string[::-1], NEXT, *string))
