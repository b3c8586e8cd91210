"""Multi-value retrieval: all numbers of one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from poslab.evaluation.retrieval.hidden import KEYS, Facts, HiddenFacts, in_order_from, log_arrangements, numbers


@dataclass(frozen=True)
class MultiValue(HiddenFacts):
    """Several numbers of the same thing, and a question about all of them in the order of the text.

        ... A number of lamps is 58213. ... A number of lamps is 20417. ... A number of lamps is 77120. ...
        What are the numbers of lamps, in order? The numbers of lamps are 58213 20417 77120

    The answer is `58213 20417 77120`. Guessing costs about 3 * 5 ln 10 = 34.5 nats over the whole answer: 2.03 for each
    of its 17 bytes, two of which are spaces. The first number is at the depth, the others at random places after it.
    The paper accepts any order; a fixed one makes the answer unique.

    Args:
        values: number of numbers, from 2 to 10.
        digits: of each, from 2 to 9.

    Source: Hsieh et al., "RULER" (COLM 2024), section 3.1, multi-values.
    """

    name: ClassVar[str] = "multi_value"
    about: ClassVar[str] = (
        "A text holds several numbers of one thing, and ends with a question about all of them, in order."
    )
    source: ClassVar[str] = "Hsieh et al., RULER (COLM 2024), section 3.1, multi-values"
    limits: ClassVar = {"values": (2, 10), "digits": (2, 9)}

    values: int = 3
    digits: int = 5

    def facts(self, depth: float, generator: np.random.Generator) -> Facts:
        key = str(generator.choice(KEYS))
        values = numbers(self.values, self.digits, generator)
        facts = [("\nA number of", f" {key}", " is", f" {value}", ".\n") for value in values]
        needles = list(zip(in_order_from(depth, self.values, generator), facts, strict=True))
        question = f"\nWhat are the numbers of {key}, in order? The numbers of {key} are"
        return Facts(needles, question, values, log_arrangements(10**self.digits, self.values))
