"""Variable tracking: all variables that have one value."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from string import ascii_uppercase
from typing import ClassVar

import numpy as np

from poslab.evaluation.retrieval.hidden import Facts, HiddenFacts, in_order_from, log_arrangements, numbers

NAMES = np.array([*map("".join, product(ascii_uppercase, repeat=3))])


@dataclass(frozen=True)
class VariableTracking(HiddenFacts):
    """Variables set to one another, and a question about all with one value, in the order of the text.

        ... Let QXA = 71. ... Let BOR = 18. ... Let LUM = QXA. ... Let FEP = BOR. ... Let TIK = LUM. ... Let WYN = FEP.
        Which variables are 71, in order? The variables are QXA LUM TIK

    The answer is `QXA LUM TIK`. Guessing costs about 3 * 3 ln 26 = 29.3 nats over the whole answer: 2.67 for each of
    its 11 bytes, two of which are spaces. The variable set to the value is at the depth, those that follow from it are
    at random places after it, and the other chains anywhere.

    Args:
        hops: variables that follow from the first one of a chain, from 1 to 10.
        chains: number of values, from 1 to 10; the question is about one of them.

    Source: Hsieh et al., "RULER" (COLM 2024), section 3.2, which has one chain of 4 hops by default.
    """

    name: ClassVar[str] = "variable_tracking"
    about: ClassVar[str] = "Variables are set to a value or to each other; the question is which ones have one value."
    source: ClassVar[str] = "Hsieh et al., RULER (COLM 2024), section 3.2"
    limits: ClassVar = {"hops": (1, 10), "chains": (1, 10)}

    hops: int = 2
    chains: int = 2

    def facts(self, depth: float, generator: np.random.Generator) -> Facts:
        length = self.hops + 1
        chains = generator.choice(NAMES, (self.chains, length), replace=False).tolist()
        values = numbers(self.chains, 2, generator)
        depths = [depth, *generator.random(self.chains - 1).tolist()]
        needles = [
            (place, ("\nLet", f" {name}", " =", f" {value}", ".\n"))
            for first, value, chain in zip(depths, values, chains, strict=True)
            for place, name, value in zip(in_order_from(first, length, generator), chain, [value, *chain], strict=False)
        ]
        question = f"\nWhich variables are {values[0]}, in order? The variables are"
        return Facts(needles, question, chains[0], log_arrangements(len(NAMES), length))
