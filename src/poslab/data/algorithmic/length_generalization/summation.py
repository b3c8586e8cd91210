from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poslab.data.algorithmic.strings import numbered
from poslab.data.algorithmic.task import AlgorithmicTask, Example
from poslab.data.bounds import require_integer


@dataclass(frozen=True)
class Summation(AlgorithmicTask):
    """The sum of digits, up to multiples of the modulus.

        3 + 9 + 1 + 4  ->  7    17

    `length` is the number of digits, from 1; each is any from 1 to 9, as likely. The output is one symbol. The paper's
    text is "Compute: 3 + 9 + 1 + 4 ." and, behind a separator, "The answer is 7 ."

    Args:
        modulus: what is counted up to, from 2 (paper: 10).

    Raises:
        ValueError: for an argument out of its range.

    Source: Kazemnejad et al., "The Impact of Positional Encoding on Length Generalization in Transformers" (NeurIPS
    2023), table 1; form and distribution from the authors' code.
    """

    modulus: int = 10

    def __post_init__(self) -> None:
        require_integer("modulus", self.modulus, 2)

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(max(10, self.modulus)), "+"

    def example(self, length: int, generator: np.random.Generator) -> Example:
        digits = generator.integers(1, 10, size=length).tolist()
        return Example(tuple("+".join(map(str, digits))), (str(sum(digits) % self.modulus),))
