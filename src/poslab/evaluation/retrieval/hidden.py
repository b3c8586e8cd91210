"""Tasks that hide facts in a text and ask for them at its end."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from poslab.evaluation.retrieval.haystack import Haystack, insert_needles, stretch
from poslab.evaluation.retrieval.task import Prompt, Task

KEYS = (
    *("apples", "boats", "candles", "drums", "feathers", "gloves"),
    *("hammers", "islands", "kettles", "lamps", "mirrors", "needles"),
)
"""Things with a number in the facts."""


@dataclass(frozen=True)
class Facts:
    """Hidden facts, a question about them, and its answer.

    Args:
        needles: depth of each fact, and its pieces of text.
        question: text before the answer.
        answer: its words.
        log_choices: as in `Prompt`.
    """

    needles: Sequence[tuple[float, Sequence[str]]]
    question: str
    answer: Sequence[str]
    log_choices: float


class HiddenFacts(Task):
    """A task whose subclass provides the facts.

    Attributes:
        in_sentences: whether facts are hidden in the short sentences even if the caller has a filler.
        limits: smallest and largest value of each hyperparameter.

    Raises:
        ValueError: for a hyperparameter outside of its limits.
    """

    in_sentences: ClassVar[bool] = False
    limits: ClassVar[Mapping[str, tuple[int, int]]]

    def __post_init__(self) -> None:
        for name, (least, most) in self.limits.items():
            if not least <= (value := getattr(self, name)) <= most:
                raise ValueError(f"{name} must be an integer from {least} to {most}, got {value}")

    @abstractmethod
    def facts(self, depth: float, generator: np.random.Generator) -> Facts:
        """Return the facts of one prompt, the first of them at a depth."""

    def least_length(self, haystack: Haystack, generator: np.random.Generator) -> int:
        needles, question, answer = _tokens(haystack, self.facts(0.0, generator))
        return sum(len(needle) for _, needle in needles) + len(question) + len(answer)

    def prompt(self, haystack: Haystack, length: int, depth: float, generator: np.random.Generator) -> Prompt:
        facts = self.facts(depth, generator)
        needles, question, answer = _tokens(haystack, facts)
        room = length - sum(len(needle) for _, needle in needles) - len(question) - len(answer)
        assert room >= 0, "a length below least_length"
        filler = stretch(haystack.sentences if self.in_sentences else haystack.text, room, generator)
        return Prompt(
            np.concatenate([insert_needles(filler, needles), question, answer]), len(answer), facts.log_choices
        )


def _tokens(haystack: Haystack, facts: Facts) -> tuple[list[tuple[float, np.ndarray]], np.ndarray, np.ndarray]:
    needles = [(depth, haystack.tokens(*pieces)) for depth, pieces in facts.needles]
    return needles, *haystack.question_and_answer(facts.question, facts.answer)


def numbers(count: int, digits: int, generator: np.random.Generator) -> list[str]:
    """Return different numbers with this many digits, which may begin with zeros."""
    drawn = generator.choice(10**digits, count, replace=False)
    return [f"{number:0{digits}}" for number in drawn]


def log_arrangements(choices: int, count: int) -> float:
    """Return the natural logarithm of the number of ordered selections of `count` different ones of `choices`."""
    return math.log(math.perm(choices, count))


def in_order_from(depth: float, count: int, generator: np.random.Generator) -> list[float]:
    """Return ascending depths: the given one, and random ones after it."""
    later = np.sort(generator.random(count - 1))
    return [depth, *(depth + (1 - depth) * later).tolist()]
