"""Parity of the pairs 01 and 10."""

import numpy as np

from poslab.data.algorithmic.strings import draw
from poslab.data.algorithmic.task import AlgorithmicTask, Example


class EvenPairs(AlgorithmicTask):
    """The parity of the pairs 01 and 10 of a random binary string: 0 if they are even in number, 1 if not.

        0 0 1 1 1 0    ->  0    one 01 and one 10
        0 1 0 1 0 0 1  ->  1    three 01 and two 10

    Each of these pairs changes the symbol, so they are even exactly if the last symbol equals the first.

    `length` is the number of input symbols, at least 1; the output is one symbol.

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1; 0 and 1 for even and odd
    as in the authors' code.
    """

    symbols = ("0", "1")

    def example(self, length: int, generator: np.random.Generator) -> Example:
        string = draw(self.symbols, length, generator)
        return Example(string, ("0" if string[0] == string[-1] else "1",))
