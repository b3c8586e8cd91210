from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from poslab.data.algorithmic.strings import draw, numbered
from poslab.data.algorithmic.task import AlgorithmicTask, Example
from poslab.data.bounds import require_integer


@dataclass(frozen=True)
class OddsFirst(AlgorithmicTask):
    """The symbols of a random string at odd places, counted from 1, and then those at even places.

        0 0 1 1 0 1 0 1  ->  0 1 0 0 0 1 1 1    first, third, ..., then second, fourth, ...

    `length` is the number of input symbols, from 1, and of output symbols.

    So it is in the paper, and in the docstrings of both of the authors' repositories. Their code counts from 0, and
    gives the second, fourth, ... symbol first; as a task, one is as hard as the other.

    Args:
        num_symbols: different symbols, from 2 (paper: 2).

    Raises:
        ValueError: for an argument out of its range.

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1.
    """

    num_symbols: int = 2

    def __post_init__(self) -> None:
        require_integer("num_symbols", self.num_symbols, 2)

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        return numbered(self.num_symbols)

    def example(self, length: int, generator: np.random.Generator) -> Example:
        string = draw(self.symbols, length, generator)
        return Example(string, string[::2] + string[1::2])
