from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from poslab.data.algorithmic.context_sensitive.binary_addition import bits, draw_bits_of_two_numbers, number
from poslab.data.algorithmic.task import AlgorithmicTask, Example


@dataclass(frozen=True)
class BinaryMultiplication(AlgorithmicTask):
    """The product of two binary numbers, the lowest bit of each first.

        0 0 1 * 0 1 1 0 1        ->  0 0 0 1 1 0 1 . 0              4 * 22 = 88
        1 0 0 1 * 0 0 0 0 0 1    ->  0 0 0 0 0 1 0 0 1 . 0          9 * 32 = 288

    Numbers of the input may end in zeros; the product does not. A stop ends it, and zeros fill the output up: it is as
    long for every input of a length, and does not tell beforehand how many bits the product has. Accuracy leaves out
    what follows the stop, as the authors' does; the loss has it in, as theirs.

    `length` is the number of input symbols, from 3, and of output symbols. How many bits the first number has is as
    likely to be any number from 1 to `length` - 2, and a number any of so many bits but 0. For lengths of 1 and 2 the
    authors' code gives a number alone and an answer without meaning, which are left out here.

    Args:
        padded: whether zeros follow the stop (paper: they do). A decoder needs none.

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1; order of the bits,
    distributions and filling up from the authors' code.
    """

    stop: ClassVar[str] = "."

    padded: bool = True

    @property
    def symbols(self) -> tuple[str, ...]:
        return "0", "1", "*", self.stop

    def has_length(self, length: int) -> bool:
        return length >= 3

    def example(self, length: int, generator: np.random.Generator) -> Example:
        assert self.has_length(length), "a length below 3"
        first, second = draw_bits_of_two_numbers(length - 1, generator)
        output = bits(number(first) * number(second)) + self.stop
        zeros = "0" * (length - len(output) if self.padded else 0)
        return Example(tuple(f"{first}*{second}"), tuple(output + zeros))
