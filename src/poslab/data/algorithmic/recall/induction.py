"""Induction heads: what followed a symbol before."""

import numpy as np

from poslab.data.algorithmic.strings import draw, numbered
from poslab.data.algorithmic.task import AlgorithmicTask, AtLeastOne, AtLeastTwo, Example

SPECIAL = "=>"


class Induction(AlgorithmicTask):
    """The symbols after the first special symbol of a random string, which a second one ends.

        3 11 => 7 0 0 14 2 =>  ->  7

    `length` is the number of input symbols, at least `answer_length` + 2; the output has `answer_length`. All places
    before that many symbols are equally likely for the first special symbol. The length changes how far away it can be.

    Args:
        num_symbols: different symbols besides the special one, at least 2 (paper: 15, which makes 16).
        answer_length: symbols to repeat, at least 1 (paper: 1).

    Source: Fu et al., "Hungry Hungry Hippos" (ICLR 2023), section 3.1; with 16 symbols and at many lengths, Gu and Dao,
    "Mamba" (2023), section 4.1.2.
    """

    num_symbols: AtLeastTwo = 15
    answer_length: AtLeastOne = 1

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(self.num_symbols), SPECIAL

    def has_length(self, length: int) -> bool:
        return length >= self.answer_length + 2

    def example(self, length: int, generator: np.random.Generator) -> Example:
        assert self.has_length(length), "a length below answer_length + 2"
        string = draw(numbered(self.num_symbols), length - 2, generator)
        place = int(generator.integers(length - 1 - self.answer_length))
        answer = string[place : place + self.answer_length]
        return Example((*string[:place], SPECIAL, *string[place:], SPECIAL), answer)
