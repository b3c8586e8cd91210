"""Retrieval of one of several keys among fillers."""

import numpy as np

from poslab.data.algorithmic.strings import draw, numbered
from poslab.data.algorithmic.task import AlgorithmicTask, AtLeastOne, AtLeastTwo, Example
from poslab.data.bounds import require_integer


class MultiKeyRetrieval(AlgorithmicTask):
    """The value of the key at the end, which stood among random fillers as one of several pairs of key and value.

        f3 k7 v0 f1 f1 k2 v5 f8 k7  ->  v0

    `length` is the number of input symbols, at least 2 `num_pairs` + 1; the output is one symbol. All ways to place
    pairs are equally likely, and so is each pair to be the answer. No key comes in two pairs; values may. The length
    changes how many fillers there are.

    Args:
        num_pairs: keys with values, 1 to `num_keys` (paper: 4).
        num_keys: different keys, at least 1.
        num_values: different values, at least 2.
        num_fillers: different fillers, at least 1.

    Source: Hsieh et al., "RULER" (COLM 2024), section 3.1, multi-key needle in a haystack, with symbols in place of its
    sentences, whose number the paper does not give.
    """

    num_pairs: int = 4
    num_keys: AtLeastOne = 64
    num_values: AtLeastTwo = 64
    num_fillers: AtLeastOne = 16

    def __post_init__(self) -> None:
        require_integer("num_pairs", self.num_pairs, 1, self.num_keys)

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(self.num_keys, "k"), *numbered(self.num_values, "v"), *numbered(self.num_fillers, "f")

    def has_length(self, length: int) -> bool:
        return length >= 2 * self.num_pairs + 1

    def example(self, length: int, generator: np.random.Generator) -> Example:
        assert self.has_length(length), "a length below 2 num_pairs + 1"
        keys = [f"k{n}" for n in generator.choice(self.num_keys, self.num_pairs, replace=False).tolist()]
        values = draw(numbered(self.num_values, "v"), self.num_pairs, generator)
        # Among fillers and pairs, of which each takes one place.
        num_parts = length - 1 - self.num_pairs
        places = np.sort(generator.choice(num_parts, self.num_pairs, replace=False)).tolist()
        fillers = draw(numbered(self.num_fillers, "f"), num_parts - self.num_pairs, generator)
        question: list[str] = []
        taken = 0
        for count, (place, key, value) in enumerate(zip(places, keys, values, strict=True)):
            question += [*fillers[taken : place - count], key, value]
            taken = place - count
        asked = int(generator.integers(self.num_pairs))
        return Example((*question, *fillers[taken:], keys[asked]), (values[asked],))
