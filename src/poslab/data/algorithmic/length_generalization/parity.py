"""Parity of ones, in words."""

import numpy as np

from poslab.data.algorithmic.strings import draw
from poslab.data.algorithmic.task import AlgorithmicTask, Example


class Parity(AlgorithmicTask):
    """The parity of the ones of a random binary string, in words: Yes if they are even in number.

        1 0 0 1 1  ->  No     three ones
        0 0 1 1    ->  Yes    two

    `length` is the number of bits, at least 1; the output is one symbol. The paper's text is "Is the number of 1's even
    in the sequence [ 1, 0, 0, 1, 1 ] ?" and "The answer is No." But for the words, it is `ParityCheck`.

    Source: Kazemnejad et al. (NeurIPS 2023), table 1; form and distribution from the authors' code.
    """

    symbols = ("0", "1", "Yes", "No")

    def example(self, length: int, generator: np.random.Generator) -> Example:
        string = draw(("0", "1"), length, generator)
        return Example(string, ("No" if string.count("1") % 2 else "Yes",))
