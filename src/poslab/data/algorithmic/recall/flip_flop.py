"""Reading of the bit that was written last (flip-flop language)."""

from typing import Annotated

import numpy as np

from poslab.arguments import Range
from poslab.data.algorithmic.strings import numbered
from poslab.data.algorithmic.task import BLANK, AlgorithmicTask, Example

WRITE, READ, IGNORE = "w", "r", "i"


class FlipFlop(AlgorithmicTask):
    """The bit that was written last, at each read of a string of instructions, each with a bit.

        w 1 i 0 r __ w 0 i 1 i 1 r __  ->  1 0    the first read follows the write of 1, the second that of 0

    The instructions are `w` (write), `r` (read) and `i` (ignore).

    `length` is the number of input symbols, an even number of at least 4. The first instruction is a write and the last
    a read. All others are drawn, with equal probabilities of write and read; bits behind `w` and `i` are equally
    likely. The output fills the blanks, and nothing else is predicted. The length changes how far back the last write
    can be, and so does `p_ignore`.

    The papers train on strings of 512 symbols with `p_ignore` 0.8, and test on 0.8, on 0.98 (sparse: the last write is
    far away) and on 0.1 (dense).

    Args:
        p_ignore: probability of an ignore, 0 to 1 (papers: 0.8 in training).

    Source: Liu et al., "Exposing Attention Glitches with Flip-Flop Language Modeling" (NeurIPS 2023), FFL(T, p); with
    one layer of two heads, Yang et al., "PaTH Attention" (2025), table 1.
    """

    symbols = (*numbered(2), WRITE, READ, IGNORE, BLANK)

    p_ignore: Annotated[float, Range(at_least=0, at_most=1)] = 0.8

    def has_length(self, length: int) -> bool:
        return length >= 4 and length % 2 == 0

    def example(self, length: int, generator: np.random.Generator) -> Example:
        assert self.has_length(length), "an odd length, or one below 4"
        p_read = (1 - self.p_ignore) / 2
        drawn = generator.choice([IGNORE, READ, WRITE], length // 2 - 2, p=[self.p_ignore, p_read, p_read]).tolist()
        bits = generator.integers(2, size=length // 2).tolist()
        memory = ""
        string: list[str] = []
        read: list[str] = []
        for instruction, bit in zip([WRITE, *drawn, READ], bits, strict=True):
            if instruction == READ:
                read.append(memory)
                string += [READ, BLANK]
                continue
            string += [instruction, str(bit)]
            if instruction == WRITE:
                memory = str(bit)
        return Example(tuple(string), tuple(read))
