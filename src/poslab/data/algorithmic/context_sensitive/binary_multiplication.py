"""Multiplication of binary numbers."""

import numpy as np

from poslab.data.algorithmic.context_sensitive.binary_addition import bits, draw_bits_of_two_numbers, number
from poslab.data.algorithmic.task import AlgorithmicTask, Example


class BinaryMultiplication(AlgorithmicTask):
    """The product of two binary numbers, the lowest bit of each first.

        0 0 1 * 0 1 1 0 1        ->  0 0 0 1 1 0 1 . 0              4 * 22 = 88
        1 0 0 1 * 0 0 0 0 0 1    ->  0 0 0 0 0 1 0 0 1 . 0          9 * 32 = 288

    `length` is the number of input symbols, at least 3, and of output symbols. For lengths of 1 and 2, which are left
    out here, the authors' code gives a number alone and an answer without meaning. All else is as in `BinaryAddition`:
    distributions, the stop, and the zeros that follow it.

    Args:
        padded: whether zeros follow the stop (paper: they do). A decoder needs none.

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1; order of the bits,
    distributions and padding from the authors' code.
    """

    stop = "."
    symbols = ("0", "1", "*", stop)
    shortest = 3

    padded: bool = True

    def example(self, length: int, generator: np.random.Generator) -> Example:
        assert self.has_length(length), "a length below 3"
        first, second = draw_bits_of_two_numbers(length - 1, generator)
        output = bits(number(first) * number(second)) + self.stop
        zeros = "0" * (length - len(output) if self.padded else 0)
        return Example(tuple(f"{first}*{second}"), tuple(output + zeros))
