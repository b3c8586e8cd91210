"""Needle retrieval: a fact in real text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from poslab.evaluation.retrieval.hidden import KEYS, Facts, HiddenFacts, numbers


@dataclass(frozen=True)
class Needle(HiddenFacts):
    """A fact in real text, the filler of the caller.

        ... and returns the length of the
        The number of lamps is 58213.
        list, which may be empty ...
        What is the number of lamps? The number of lamps is 58213

    The answer is `58213`. Guessing costs ln 10 = 2.303 nats per digit.

    Args:
        digits: of the number, from 1 to 9.

    Source: Hsieh et al., "RULER" (COLM 2024), section 3.1, single needle.
    """

    name: ClassVar[str] = "needle"
    about: ClassVar[str] = "A text holds one fact with a random number, and ends with a question about it."
    source: ClassVar[str] = "Hsieh et al., RULER (COLM 2024), section 3.1"
    limits: ClassVar = {"digits": (1, 9)}

    digits: int = 5

    def facts(self, depth: float, generator: np.random.Generator) -> Facts:
        key = str(generator.choice(KEYS))
        (number,) = numbers(1, self.digits, generator)
        return Facts([(depth, fact(key, number))], question(key), [number], self.digits * math.log(10))


def fact(key: str, number: str) -> tuple[str, ...]:
    """Return the pieces of a line with the number of a thing."""
    return "\nThe number of", f" {key}", " is", f" {number}", ".\n"


def question(key: str) -> str:
    """Return the question about the number of a thing, and the beginning of its answer."""
    return f"\nWhat is the number of {key}? The number of {key} is"
