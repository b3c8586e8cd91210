"""Interface of a retrieval task: prompts of an exact number of tokens, and their answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from poslab.evaluation.retrieval.haystack import Haystack


@dataclass(frozen=True, eq=False)
class Prompt:
    """A text whose last tokens are an answer that the rest of it determines.

    A guess that knows the form of answers but not the text is right with probability `exp(-log_choices)`, at a loss of
    `log_choices / answer_length` nats per token.

    Args:
        tokens: token ids (T,), int64, the answer included.
        answer_length: number of last tokens that are the answer, at least 1.
        log_choices: natural logarithm of the number of answers of this form: 5 ln 10 for a number of five digits.
    """

    tokens: np.ndarray
    answer_length: int
    log_choices: float


class Task(ABC):
    """A maker of prompts. The same generator makes the same prompt; a depth only moves the fact to be found.

    Attributes:
        name: lower case, with underscores.
        has_depth: whether the fact to be found is at one place, which a depth can choose.
        about: one sentence on the task.
        source: a paper and section.
    """

    name: ClassVar[str]
    has_depth: ClassVar[bool] = True
    about: ClassVar[str]
    source: ClassVar[str]

    @abstractmethod
    def least_length(self, haystack: Haystack, generator: np.random.Generator) -> int:
        """Return the number of tokens of the prompt that this generator makes, without any filler."""

    @abstractmethod
    def prompt(self, haystack: Haystack, length: int, depth: float, generator: np.random.Generator) -> Prompt:
        """Return a prompt of a length in tokens, the answer included, of at least `least_length`.

        The depth is the share of the filler before the fact to be found, from 0 (the beginning) to 1 (right before the
        question); a task without a depth ignores it.
        """
