from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from poslab.data.algorithmic.strings import draw, numbered
from poslab.data.algorithmic.task import AlgorithmicTask, Example
from poslab.data.bounds import require_integer


@dataclass(frozen=True)
class DuplicateString(AlgorithmicTask):
    """A random string, twice.

        1 0 0  ->  1 0 0 1 0 0

    `length` is the number of input symbols, from 1; the output has `num_copies` times as many.

    Args:
        num_symbols: different symbols, from 2 (paper: 2).
        num_copies: how often the output repeats the input, from 1 (paper: 2).

    Raises:
        ValueError: for an argument out of its range.

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1.
    """

    num_symbols: int = 2
    num_copies: int = 2

    def __post_init__(self) -> None:
        require_integer("num_symbols", self.num_symbols, 2)
        require_integer("num_copies", self.num_copies, 1)

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        return numbered(self.num_symbols)

    def example(self, length: int, generator: np.random.Generator) -> Example:
        string = draw(self.symbols, length, generator)
        return Example(string, string * self.num_copies)
