"""Copying of what is not noise."""

import numpy as np

from poslab.data.algorithmic.strings import draw, numbered
from poslab.data.algorithmic.task import AlgorithmicTask, AtLeastOne, AtLeastTwo, Example

NOISE = "."


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

    num_data: AtLeastOne = 16
    num_symbols: AtLeastTwo = 14

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(self.num_symbols), NOISE

    def has_length(self, length: int) -> bool:
        return length >= self.num_data

    def example(self, length: int, generator: np.random.Generator) -> Example:
        assert self.has_length(length), "a length below num_data"
        data = draw(numbered(self.num_symbols), self.num_data, generator)
        places = np.sort(generator.choice(length, self.num_data, replace=False)).tolist()
        string = [NOISE] * length
        for place, symbol in zip(places, data, strict=True):
            string[place] = symbol
        return Example(tuple(string), data)
