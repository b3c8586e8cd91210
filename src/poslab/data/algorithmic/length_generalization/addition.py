"""Addition of decimal numbers."""

from itertools import zip_longest

import numpy as np

from poslab.data.algorithmic.strings import numbered
from poslab.data.algorithmic.task import AlgorithmicTask, AtLeastOne, Example


class Addition(AlgorithmicTask):
    """The sum of two decimal numbers, the highest digit of each first.

        5 3 7 2 6 + 1 9 1 7  ->  5 5 6 4 3

    `length` is the digits of the longer number, at least `least_digits`. All pairs of digit counts with that maximum
    are equally likely; numbers do not begin with 0, unless they have one digit. The paper's text is "Compute 5 3 7 2 6
    + 1 9 1 7 ?" and "The answer is 5 5 6 4 3."

    The paper has equally many examples of every pair of digit counts from its least to its largest one, so that longer
    lengths have more: (length - least) * 2 + 1 pairs have a maximum of `length`. It tests pairs of which one or both
    have more digits than in training.

    Under `reversed`, every number begins with its lowest digit instead, the sum too: `6 2 7 3 5 + 7 1 9 1` gives
    `3 4 6 5 5`. Each digit of the sum then follows from digits of its own place and from those written before, which
    suits encodings of digits by their place (Abacus).

    Args:
        least_digits: of a number, at least 1 (the default of the authors' script is 4).
        reversed: whether numbers begin with their lowest digit (paper: false; McLeish et al. 2024: true).

    Source: Kazemnejad et al. (NeurIPS 2023), table 1; distributions from the authors' code.
    """

    symbols = (*numbered(10), "+")

    least_digits: AtLeastOne = 1
    reversed: bool = False

    def has_length(self, length: int) -> bool:
        return length >= self.least_digits

    def example(self, length: int, generator: np.random.Generator) -> Example:
        assert self.has_length(length), "a length below least_digits"
        # 2n + 1 pairs, in a row: the first number shorter, both as long, the second number shorter.
        by_fewer = length - self.least_digits
        place = int(generator.integers(-by_fewer, by_fewer + 1))
        first = _digits(length - max(-place, 0), generator)
        second = _digits(length - max(place, 0), generator)
        numbers = [first, second, _sum(first, second)]
        first, second, total = (number[::-1] if self.reversed else number for number in numbers)
        return Example((*map(str, first), "+", *map(str, second)), tuple(map(str, total)))

    def most_tokens(self, length: int) -> int:
        return 3 * length + 3  # of two numbers of as many digits, whose sum has one more


def _digits(count: int, generator: np.random.Generator) -> list[int]:
    digits: list[int] = generator.integers(10, size=count).tolist()
    if count > 1:
        digits[0] = int(generator.integers(1, 10))
    return digits


def _sum(first: list[int], second: list[int]) -> list[int]:
    """Add digit by digit: Python neither reads nor writes numbers of more than 4,300 digits."""
    total, carry = [], 0
    for one, other in zip_longest(reversed(first), reversed(second), fillvalue=0):
        carry, digit = divmod(one + other + carry, 10)
        total.append(digit)
    return [1] * carry + total[::-1]
