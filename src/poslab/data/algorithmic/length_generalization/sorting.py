"""Sorting of single symbols, and of numbers of several digits."""

from string import ascii_lowercase, ascii_uppercase, digits
from typing import Annotated

import numpy as np

from poslab.arguments import Range
from poslab.data.algorithmic.strings import numbered
from poslab.data.algorithmic.task import AlgorithmicTask, Example
from poslab.data.bounds import require_integer

ORDER = digits + ascii_lowercase + ascii_uppercase


class Sorting(AlgorithmicTask):
    """A random string of single symbols in order: digits, then small letters, then capitals.

        k 3 B k 0  ->  0 3 k k B

    `length` is the number of input symbols, at least 1, and of output symbols. The paper's text is "Sort the following
    list [ k, 3, B, k, 0 ]." and "The sorted list is [ 0, 3, k, k, B ]."

    Args:
        num_symbols: different symbols, 2 to 62 (paper: 50): the first ones of the order.

    Source: Kazemnejad et al. (NeurIPS 2023), table 1, sorting of single tokens; details from the authors' code.
    """

    num_symbols: Annotated[int, Range(at_least=2, at_most=len(ORDER))] = 50

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(ORDER[: self.num_symbols])

    def example(self, length: int, generator: np.random.Generator) -> Example:
        places = generator.integers(self.num_symbols, size=length)
        in_order = np.sort(places)
        return Example(tuple([ORDER[n] for n in places.tolist()]), tuple([ORDER[n] for n in in_order.tolist()]))


class SortingNumbers(AlgorithmicTask):
    """Random numbers in order, digit by digit, with commas between.

        5 7 1 , 4 0 2 6 , 9 3  ->  9 3 , 5 7 1 , 4 0 2 6

    `length` is the number of numbers, at least 1, all from `least` to `most` equally likely. The paper's text is "Sort
    the following list [ 5 7 1, 4 0 2 6, 9 3 ]." and "The sorted list is [ 9 3, 5 7 1, 4 0 2 6 ]."

    Args:
        least: smallest number, at least 0 (paper: 10).
        most: largest number, at least `least` (paper: 9999).

    Source: Kazemnejad et al. (NeurIPS 2023), table 1, sorting of multi-digit numbers; details from the authors' code.
    """

    symbols = (*numbered(10), ",")

    least: Annotated[int, Range(at_least=0)] = 10
    most: int = 9999

    def __post_init__(self) -> None:
        require_integer("most", self.most, self.least)

    def example(self, length: int, generator: np.random.Generator) -> Example:
        numbers = generator.integers(self.least, self.most, size=length, endpoint=True)
        return Example(_digit_by_digit(numbers.tolist()), _digit_by_digit(np.sort(numbers).tolist()))

    def most_tokens(self, length: int) -> int:
        return 2 * len(_digit_by_digit([self.most] * length)) + 1


def _digit_by_digit(numbers: list[int]) -> tuple[str, ...]:
    return tuple(",".join(map(str, numbers)))
