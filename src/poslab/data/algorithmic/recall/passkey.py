"""A number among sentences."""

from itertools import cycle, islice

import numpy as np

from poslab.data.algorithmic.strings import draw, numbered
from poslab.data.algorithmic.task import AlgorithmicTask, AtLeastOne, Example

SENTENCES = "the path goes on . the wind is cold . the hills are far away . we walk and we rest and we walk again ."
FILLER = tuple(SENTENCES.split())
MARK = "passkey"


class Passkey(AlgorithmicTask):
    """A random number among sentences that repeat, after a mark that ends the input.

        the path goes passkey 5 8 2 1 3 the path passkey  ->  5 8 2 1 3

    `length` is the number of input symbols, at least `digits` + 2; the output has `digits`. All places of the number
    are equally likely, and the sentences begin anew behind it. The length changes how much text surrounds the number,
    and how far away it can be.

    Args:
        digits: of the number, at least 1, all equally likely (the paper's numbers go up to 50,000).

    Source: Mohtashami and Jaggi, "Landmark Attention" (NeurIPS 2023), section 4.2, with our own sentences and a mark in
    place of the question.
    """

    symbols = (*numbered(10), *dict.fromkeys(FILLER), MARK)

    digits: AtLeastOne = 5

    def has_length(self, length: int) -> bool:
        return length >= self.digits + 2

    def example(self, length: int, generator: np.random.Generator) -> Example:
        assert self.has_length(length), "a length below digits + 2"
        number = draw(numbered(10), self.digits, generator)
        room = length - self.digits - 2
        before = int(generator.integers(room + 1))
        return Example((*_sentences(before), MARK, *number, *_sentences(room - before), MARK), number)


def _sentences(length: int) -> tuple[str, ...]:
    return tuple(islice(cycle(FILLER), length))
