"""Parity of ones."""

import numpy as np

from poslab.data.algorithmic.strings import draw
from poslab.data.algorithmic.task import AlgorithmicTask, Example


class ParityCheck(AlgorithmicTask):
    """The parity of the ones of a random binary string: 0 if they are even in number, 1 if not.

        1 0 1 0 1 0 0  ->  1    three ones
        0 1 1 1 1      ->  0    four ones

    `length` is the number of input symbols, at least 1; the output is one symbol.

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1; 0 and 1 for even and odd
    as in the authors' code.
    """

    symbols = ("0", "1")

    def example(self, length: int, generator: np.random.Generator) -> Example:
        string = draw(self.symbols, length, generator)
        return Example(string, (str(string.count("1") % 2),))
