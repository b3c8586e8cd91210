"""The missing symbol of a string that stands twice."""

import numpy as np

from poslab.data.algorithmic.strings import draw
from poslab.data.algorithmic.task import AlgorithmicTask, Example

BITS = ("0", "1")
MISSING = "_"
FILLER = "."


class MissingDuplicate(AlgorithmicTask):
    """The symbol that is missing where a random binary string stands twice.

        0 1 1 0 0 _ 1 0  ->  1    0110 twice
        1 0 1 1 _ 1 .    ->  0    101 twice

    `length` is the number of input symbols, at least 2. An odd one has a stop at its end, as in the authors' code. All
    symbols are equally likely to be missing. The output is one symbol. The authors' code gives 1 for the input 1 of
    length 1, which is left out here.

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1.
    """

    symbols = (*BITS, MISSING, FILLER)
    shortest = 2

    def example(self, length: int, generator: np.random.Generator) -> Example:
        assert self.has_length(length), "a length below 2"
        duplicate = list(draw(BITS, length // 2, generator)) * 2
        place = int(generator.integers(len(duplicate)))
        answer, duplicate[place] = duplicate[place], MISSING
        return Example((*duplicate, *FILLER * (length % 2)), (answer,))
