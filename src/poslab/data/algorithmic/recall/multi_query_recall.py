"""Recall of several keys (MQAR)."""

from functools import lru_cache
from typing import Annotated

import numpy as np

from poslab.arguments import Range
from poslab.data.algorithmic.strings import numbered
from poslab.data.algorithmic.task import AlgorithmicTask, AtLeastOne, AtLeastTwo, Example
from poslab.data.bounds import require_integer

FILLER = "."


class MultiQueryRecall(AlgorithmicTask):
    """The values of keys, which come in pairs and then once more in any order, with gaps: values in that order (MQAR).

        k1 v8 k4 v7 . . k4 . . . . . k1 . .  ->  v7 v8

    `length` is the number of input symbols, at least 4 `num_pairs`; the output has `num_pairs`. Keys are different from
    each other, and so are values. A query stands an even number of symbols 2 g behind the pairs; the probability of
    each g that is left is proportional to (g + 1) ** (power - 1): small ones are more frequent, as words repeat in
    texts. The length changes how far behind the pairs queries can be.

    The authors predict a value where its key comes again; here all values follow the input, in the order of the
    queries. An odd length, which they do not have, ends in one more filler. In their figure 2, lengths of 64, 128, 256
    and 512 have 4, 8, 16 and 64 pairs.

    Args:
        num_pairs: 1 to `num_keys` and `num_values` (the authors' code: 8).
        num_keys: different keys, at least 1 (paper: 4095, which makes 8192 symbols with values and filler).
        num_values: different values, at least 2 (paper: 4096).
        power: above 0 and at most 1 (paper: 0.01); 1 makes all places equally likely.

    Source: Arora et al., "Zoology" (ICLR 2024), section 3 and figure 2; distributions from the authors' code, without
    its option of random symbols in place of fillers.
    """

    num_pairs: int = 8
    num_keys: AtLeastOne = 4095
    num_values: AtLeastTwo = 4096
    power: Annotated[float, Range(above=0, at_most=1)] = 0.01

    def __post_init__(self) -> None:
        require_integer("num_pairs", self.num_pairs, 1, min(self.num_keys, self.num_values))

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(self.num_keys, "k"), *numbered(self.num_values, "v"), FILLER

    def has_length(self, length: int) -> bool:
        return length >= 4 * self.num_pairs

    def example(self, length: int, generator: np.random.Generator) -> Example:
        assert self.has_length(length), "a length below 4 num_pairs"
        keys = [f"k{n}" for n in generator.choice(self.num_keys, self.num_pairs, replace=False).tolist()]
        values = [f"v{n}" for n in generator.choice(self.num_values, self.num_pairs, replace=False).tolist()]
        string = [FILLER] * length
        pairs = 2 * self.num_pairs
        string[:pairs:2], string[1:pairs:2] = keys, values
        chances = _chances((length - pairs) // 2, self.power)
        gaps = generator.choice(len(chances), self.num_pairs, replace=False, p=chances).tolist()
        for gap, key in zip(gaps, keys, strict=True):
            string[pairs + 2 * gap] = key
        return Example(tuple(string), tuple([value for _, value in sorted(zip(gaps, values, strict=True))]))


@lru_cache(maxsize=1024)
def _chances(num_places: int, power: float) -> np.ndarray:
    weights = np.arange(1, num_places + 1) ** (power - 1.0)
    chances: np.ndarray = weights / weights.sum()
    return chances
