"""Square roots of binary numbers."""

import math

import numpy as np

from poslab.data.algorithmic.task import AlgorithmicTask, Example


class ComputeSqrt(AlgorithmicTask):
    """The square root of a binary number, rounded down, the highest bit of each first.

        1 0 0 1 0 1  ->  1 1 0    37, whose root is 6.08
        1 1 1        ->  1 0      7, whose root is 2.65

    `length` is the number of input symbols, at least 1; the output has half as many, rounded up. Both may begin with
    zeros. All numbers of so many bits but 0 are equally likely.

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1; order of the bits and
    distribution from the authors' code.
    """

    symbols = ("0", "1")

    def example(self, length: int, generator: np.random.Generator) -> Example:
        bits = ""
        while "1" not in bits:
            bits = "".join(map(str, generator.integers(2, size=length).tolist()))
        root = math.isqrt(int(bits, 2))
        return Example(tuple(bits), tuple(f"{root:0{(length + 1) // 2}b}"))
