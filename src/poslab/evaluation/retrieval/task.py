"""What every retrieval task gives: prompts of an exact number of tokens, and the answer that must follow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from poslab.evaluation.retrieval.haystack import Haystack


@dataclass(frozen=True, eq=False)
class Prompt:
    """A text whose last tokens are an answer that the rest of it makes certain.

    Somebody who knows what form answers have, but has not read the text, is right with probability
    `exp(-log_choices)`, at a loss of `log_choices / answer_length` nats per token.

    Args:
        tokens: token ids (T,), int64, the answer included.
        answer_length: how many of the last tokens are the answer, from 1.
        log_choices: natural logarithm of the number of answers of this form: 5 ln 10 for a number of five digits.
    """

    tokens: np.ndarray
    answer_length: int
    log_choices: float


class Task(ABC):
    """Makes prompts. The same generator makes the same prompt; a depth only moves what is to be found.

    Attributes:
        name: lower case, with underscores.
        has_depth: whether what is to be found stands at one place, which a depth can choose.
        about: one sentence on what is asked.
        source: a paper and section.
    """

    name: ClassVar[str]
    has_depth: ClassVar[bool] = True
    about: ClassVar[str]
    source: ClassVar[str]

    @abstractmethod
    def least_length(self, haystack: Haystack, generator: np.random.Generator) -> int:
        """How many tokens the prompt that this generator makes needs, with no filler at all."""

    @abstractmethod
    def prompt(self, haystack: Haystack, length: int, depth: float, generator: np.random.Generator) -> Prompt:
        """A prompt.

        Args:
            haystack: the tokenizer, and what text the needle is hidden in.
            length: tokens of the prompt, the answer included, from `least_length`.
            depth: where the thing to be found stands: the share of the filler before it, from 0 (the beginning) to 1
                (right before the question). A task without a depth does not read it.
            generator: what draws the prompt.
        """
