"""Passkey retrieval: a random number among sentences that repeat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from poslab.evaluation.retrieval.hidden import Facts, HiddenFacts, numbers


@dataclass(frozen=True)
class Passkey(HiddenFacts):
    """A random number among sentences that repeat.

        ... The wind is cold. The hills are
        The pass key is 58213. Remember it.
        far away. We walk, and we rest ...
        What is the pass key? The pass key is 58213

    The answer is `58213`. Guessing costs ln 10 = 2.303 nats per digit. The words are not those of the paper.

    Args:
        digits: of the number, from 1 to 9.

    Source: Mohtashami and Jaggi, "Landmark Attention" (NeurIPS 2023), section 4.2.
    """

    name: ClassVar[str] = "passkey"
    about: ClassVar[str] = "Sentences that repeat hide one random number, and end with a question about it."
    source: ClassVar[str] = "Mohtashami and Jaggi, Landmark Attention (NeurIPS 2023), section 4.2"
    in_sentences: ClassVar[bool] = True
    limits: ClassVar = {"digits": (1, 9)}

    digits: int = 5

    def facts(self, depth: float, generator: np.random.Generator) -> Facts:
        (number,) = numbers(1, self.digits, generator)
        needle = ("\nThe pass key is", f" {number}", ". Remember it.\n")
        question = "\nWhat is the pass key? The pass key is"
        return Facts([(depth, needle)], question, [number], self.digits * math.log(10))
