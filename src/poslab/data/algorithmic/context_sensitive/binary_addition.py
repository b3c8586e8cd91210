"""Addition of binary numbers, and their bits."""

import numpy as np

from poslab.data.algorithmic.task import AlgorithmicTask, Example


class BinaryAddition(AlgorithmicTask):
    """The sum of two binary numbers, the lowest bit of each first.

        0 0 1 + 0 1 1 0 1        ->  0 1 0 1 1 . 0 0 0 0            4 + 22 = 26
        1 0 0 1 + 0 0 0 0 0 1    ->  1 0 0 1 0 1 . 0 0 0 0 0        9 + 32 = 41

    Numbers of the input may end in zeros; the sum does not. A stop ends it, and zeros fill it up: it is equally long
    for all inputs of a length, and does not reveal how many bits the sum has. Accuracy leaves out what follows the stop
    and the loss counts it, as the authors' do.

    `length` is the number of input symbols, at least 3; the output has one more. All numbers of bits of the first
    number from 1 to `length` - 2 are equally likely, as are all numbers of so many bits but 0. For lengths of 1 and 2,
    which are left out here, the authors' code gives a number alone.

    Args:
        padded: whether zeros follow the stop (paper: they do). A decoder needs none.

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1; order of the bits,
    distributions and padding from the authors' code.
    """

    stop = "."
    symbols = ("0", "1", "+", stop)
    shortest = 3

    padded: bool = True

    def example(self, length: int, generator: np.random.Generator) -> Example:
        assert self.has_length(length), "a length below 3"
        first, second = draw_bits_of_two_numbers(length - 1, generator)
        output = bits(number(first) + number(second)) + self.stop
        zeros = "0" * (length + 1 - len(output) if self.padded else 0)
        return Example(tuple(f"{first}+{second}"), tuple(output + zeros))


def draw_bits_of_two_numbers(num_bits: int, generator: np.random.Generator) -> tuple[str, str]:
    """Draw random bits in two parts, neither of which is empty or all zeros."""
    first_bits = int(generator.integers(1, num_bits))
    while True:  # one draw in four is good at worst, for one bit each
        drawn = "".join(map(str, generator.integers(2, size=num_bits).tolist()))
        first, second = drawn[:first_bits], drawn[first_bits:]
        if "1" in first and "1" in second:
            return first, second


def number(bits: str) -> int:
    """Return the number of bits, the lowest first."""
    return int(bits[::-1], 2)


def bits(number: int) -> str:
    """Return the bits of a number, the lowest first, without zeros at the end."""
    return f"{number:b}"[::-1]
