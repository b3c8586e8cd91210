"""Multi-key retrieval: one of several facts of the same form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from poslab.evaluation.retrieval.hidden import KEYS, Facts, HiddenFacts, numbers
from poslab.evaluation.retrieval.needle import fact, question


@dataclass(frozen=True)
class MultiKey(HiddenFacts):
    """Several facts of the same form, and a question about one of them.

        ... The number of lamps is 58213. ... The number of boats is 20417. ... The number of drums is 77120. ...
        What is the number of boats? The number of boats is 20417

    The answer is `20417`. Guessing costs ln 10 = 2.303 nats per digit; copying any number of the text is right in 1 of
    `keys` prompts. The fact in question is at the depth, the others are at random places.

    Args:
        keys: number of facts, from 2 to 12.
        digits: of each number, from 2 to 9.

    Source: Hsieh et al., "RULER" (COLM 2024), section 3.1, multi-keys.
    """

    name: ClassVar[str] = "multi_key"
    about: ClassVar[str] = "A text holds several facts of the same form, and ends with a question about one of them."
    source: ClassVar[str] = "Hsieh et al., RULER (COLM 2024), section 3.1, multi-keys"
    limits: ClassVar = {"keys": (2, len(KEYS)), "digits": (2, 9)}

    keys: int = 4
    digits: int = 5

    def facts(self, depth: float, generator: np.random.Generator) -> Facts:
        keys = [str(key) for key in generator.choice(KEYS, self.keys, replace=False)]
        values = numbers(self.keys, self.digits, generator)
        # Random depths are below 1, and equal depths keep their order: the fact in question is first at 0, last at 1.
        depths = [depth, *generator.random(self.keys - 1).tolist()]
        needles = list(zip(depths, map(fact, keys, values), strict=True))
        return Facts(needles, question(keys[0]), [values[0]], self.digits * math.log(10))
