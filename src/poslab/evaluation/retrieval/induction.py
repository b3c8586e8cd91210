"""Induction: repetition of a random sequence of tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from poslab.evaluation.retrieval.haystack import Haystack
from poslab.evaluation.retrieval.task import Prompt, Task


@dataclass(frozen=True)
class Induction(Task):
    """A sequence of random tokens, and the same again without a mark at its beginning.

        tokens: 17 203 88 5 17 203 88 5

    The answer is the second half without its first token, which is unpredictable: `203 88 5`. Guessing costs ln A nats
    per token, where A is the number of different tokens in the filler, or in the vocabulary without one. A prompt of an
    odd number of tokens begins with one more random token.

    If a token occurs more than once in a half, it does not determine the next one; this is more frequent in longer
    halves and smaller vocabularies.

    The paper's own in-context learning score is another metric: the loss at a late token (the 500th) of ordinary text
    minus that at an early one (the 50th). It finds induction heads on sequences like these.

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
