"""Symbols by number, random strings of them, and tasks on such strings."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cache

import numpy as np

from poslab.data.algorithmic.task import AlgorithmicTask, AtLeastTwo, Example


def draw(symbols: Sequence[str], length: int, generator: np.random.Generator) -> tuple[str, ...]:
    """Draw a string of that length; all symbols are equally likely at each place."""
    # All at once, and then Python's own integers: one draw a symbol costs a microsecond each.
    return tuple([symbols[index] for index in generator.integers(len(symbols), size=length).tolist()])


@cache
def numbered(count: int, prefix: str = "") -> tuple[str, ...]:
    """Return symbols numbered from 0: `numbered(3, "k")` is ("k0", "k1", "k2")."""
    return tuple([f"{prefix}{number}" for number in range(count)])


class StringTask(AlgorithmicTask):
    """A task on random strings of numbered symbols.

    Args:
        num_symbols: different symbols, at least 2.
    """

    num_symbols: AtLeastTwo = 2

    @property
    def symbols(self) -> tuple[str, ...]:
        return numbered(self.num_symbols)

    def example(self, length: int, generator: np.random.Generator) -> Example:
        string = draw(self.symbols, length, generator)
        return Example(string, self.output(string))

    @abstractmethod
    def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
        """Return the right output for an input."""
