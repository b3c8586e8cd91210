"""Copying of what is not noise."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from poslab.data.algorithmic.strings import draw, numbered
from poslab.data.algorithmic.task import AlgorithmicTask, Example
from poslab.data.bounds import require_integer

NOISE = "."


@dataclass(frozen=True)
class SelectiveCopying(AlgorithmicTask):
    """The symbols of the input that are not noise, in their order.

        . . 3 . 12 . . . 3 .  ->  3 12 3

    `length` is the number of input symbols, at least `num_data`; the output has `num_data`. All ways to place the data
    are equally likely. The length changes how much noise there is. The authors' input ends in as many marks as there
    are data, each a place to predict one; here the answer is the output, without marks.

    Args:
        num_data: symbols that are not noise, at least 1 (paper: 16).
        num_symbols: different symbols that are not noise, at least 2 (paper: 14; with the noise and the mark, 16).

    Source: Gu and Dao, "Mamba" (2023), section 4.1.1, after Jing et al., "Gated Orthogonal Recurrent Units" (2019), the
    denoise task; the count of symbols from the code of "S4", on which the former builds.
    """

    num_data: int = 16
    num_symbols: int = 14

    def __post_init__(self) -> None:
        require_integer("num_data", self.num_data, 1)
        require_integer("num_symbols", self.num_symbols, 2)

    @cached_property
    def data(self) -> tuple[str, ...]:
        """All symbols but the noise."""
        return numbered(self.num_symbols)

    @property
    def symbols(self) -> tuple[str, ...]:
        return *self.data, NOISE

    def has_length(self, length: int) -> bool:
        return length >= self.num_data

    def example(self, length: int, generator: np.random.Generator) -> Example:
        assert self.has_length(length), "a length below num_data"
        data = draw(self.data, self.num_data, generator)
        places = np.sort(generator.choice(length, self.num_data, replace=False)).tolist()
        string = [NOISE] * length
        for place, symbol in zip(places, data, strict=True):
            string[place] = symbol
        return Example(tuple(string), data)
