from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from poslab.data.algorithmic.strings import numbered
from poslab.data.algorithmic.task import AlgorithmicTask, Example
from poslab.data.bounds import require_integer


@dataclass(frozen=True)
class BucketSort(AlgorithmicTask):
    """A random string in order.

        1 0 2 0 4 1 1 2  ->  0 0 1 1 1 2 2 4

    `length` is the number of input symbols, from 1, and of output symbols.

    Args:
        num_symbols: different symbols, from 2 (paper: 5); their order is that of their numbers.

    Raises:
        ValueError: for an argument out of its range.

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1.
    """

    num_symbols: int = 5

    def __post_init__(self) -> None:
        require_integer("num_symbols", self.num_symbols, 2)

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        return numbered(self.num_symbols)

    def example(self, length: int, generator: np.random.Generator) -> Example:
        numbers = generator.integers(self.num_symbols, size=length)
        return Example(tuple(map(str, numbers.tolist())), tuple(map(str, np.sort(numbers).tolist())))
