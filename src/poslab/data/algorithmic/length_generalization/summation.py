"""Sums of digits modulo a number."""

import numpy as np

from poslab.data.algorithmic.strings import numbered
from poslab.data.algorithmic.task import AlgorithmicTask, AtLeastTwo, Example


class Summation(AlgorithmicTask):
    """The sum of digits modulo a number.

        3 + 9 + 1 + 4  ->  7    17

    `length` is the number of digits, at least 1, all from 1 to 9 equally likely. The output is one symbol. The paper's
    text is "Compute: 3 + 9 + 1 + 4 ." and, after a separator, "The answer is 7 ."

    Args:
        modulus: at least 2 (paper: 10).

    Source: Kazemnejad et al. (NeurIPS 2023), table 1; form and distribution from the authors' code.
    """

    modulus: AtLeastTwo = 10

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(max(10, self.modulus)), "+"

    def example(self, length: int, generator: np.random.Generator) -> Example:
        digits = generator.integers(1, 10, size=length).tolist()
        return Example(tuple("+".join(map(str, digits))), (str(sum(digits) % self.modulus),))
