from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from poslab.evaluation.retrieval.haystack import Haystack
from poslab.evaluation.retrieval.task import Prompt, Task


@dataclass(frozen=True)
class Induction(Task):
    """A sequence of random tokens, and the same again without any sign that it begins.

        tokens: 17 203 88 5 17 203 88 5

    The answer is the second half without its first token, which nothing announces: `203 88 5`. Guessing costs ln A nats
    per token, A the number of different tokens in the filler, or in the vocabulary without one. A prompt of an odd
    number of tokens begins with one more random token.

    Where tokens come more than once in a half, the one before does not say what follows; the more so, the longer the
    half and the fewer tokens there are.

    The paper's own in-context learning score is another figure: the loss at a late token (the 500th) of ordinary text
    minus that at an early one (the 50th). Its induction heads are found on sequences like these.

    Source: Olsson et al., "In-context Learning and Induction Heads" (2022), arXiv 2209.11895, "Key concepts".
    """

    name: ClassVar[str] = "induction"
    has_depth: ClassVar[bool] = False
    about: ClassVar[str] = "Random tokens fill half of the prompt, and the other half repeats them."
    source: ClassVar[str] = "Olsson et al., In-context Learning and Induction Heads (2022), arXiv 2209.11895"

    def least_length(self, haystack: Haystack, generator: np.random.Generator) -> int:
        return 4

    def prompt(self, haystack: Haystack, length: int, depth: float, generator: np.random.Generator) -> Prompt:
        half = length // 2
        assert half >= 2, "a length below least_length"
        first = generator.choice(haystack.alphabet, length - half)
        tokens = np.concatenate([first, first[-half:]])
        return Prompt(tokens, half - 1, log_choices=(half - 1) * math.log(len(haystack.alphabet)))
