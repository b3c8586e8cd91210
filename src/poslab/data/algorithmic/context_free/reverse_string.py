"""Reversal of a string."""

from dataclasses import dataclass

import numpy as np

from poslab.data.algorithmic.strings import StringTask, draw
from poslab.data.algorithmic.task import Example


@dataclass(frozen=True)
class ReverseString(StringTask):
    """A random string backwards.

        0 1 1 0 1 0  ->  0 1 0 1 1 0

    `length` is the number of input symbols, at least 1, and of output symbols.

    Args:
        num_symbols: different symbols, at least 2 (paper: 2).

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1.
    """

    def example(self, length: int, generator: np.random.Generator) -> Example:
        string = draw(self.symbols, length, generator)
        return Example(string, string[::-1])
