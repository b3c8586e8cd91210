"""Prompts of retrieval tasks: facts hidden in a text, a question, and its answer, of an exact number of tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import ClassVar

import numpy as np

from poslab.data.tokenizers import Tokenizer

SENTENCES = "The path goes on. The wind is cold. The hills are far away. We walk, and we rest, and we walk again. "


class Haystack:
    """A tokenizer and text in its tokens.

    Texts are encoded piece by piece, so that a word has the same tokens everywhere. Prompts are joined from tokens, so
    that their length is exact.

    Args:
        tokenizer: of the model.
        filler: text to hide facts in, preferably held out from training, as a string or as token ids; None is short
            sentences that repeat.

    Attributes:
        sentences: token ids of the sentences, int64.
        text: token ids of the filler, int64, without ends of documents, at which a model may have learned to forget.
        alphabet: tokens of random sequences: the different ones of the filler, since others may not occur in training;
            without a filler, all tokens but the end of a document.

    Raises:
        ValueError: for a filler without any token.
    """

    def __init__(self, tokenizer: Tokenizer, filler: str | np.ndarray | None = None) -> None:
        self.tokenizer = tokenizer
        self.sentences = self.tokens(SENTENCES)
        if filler is None:
            self.text = self.sentences
            self.alphabet = np.setdiff1d(np.arange(tokenizer.vocab_size), [tokenizer.end_id])
        else:
            tokens = self.tokens(filler) if isinstance(filler, str) else filler.astype(np.int64)
            self.text = tokens[tokens != tokenizer.end_id]
            self.alphabet = np.unique(self.text)
        if not len(self.text):
            raise ValueError("filler must hold at least one token of text, got none")

    def tokens(self, *pieces: str) -> np.ndarray:
        """Return the token ids of pieces of text, each encoded by itself, int64."""
        return np.concatenate([self.tokenizer.encode(piece).astype(np.int64) for piece in pieces])

    def question_and_answer(self, question: str, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the tokens of a question, and of an answer whose words follow it with a space before each.

        If the first space is a token of its own, as in bytes, it goes to the question: predicting it proves nothing.
        """
        first, alone = self.tokens(f" {words[0]}"), self.tokens(words[0])
        num_before = len(first) - len(alone) if np.array_equal(first[-len(alone) :], alone) else 0
        answer = self.tokens(*(f" {word}" for word in words))
        return np.concatenate([self.tokens(question), answer[:num_before]]), answer[num_before:]


def stretch(text: np.ndarray, length: int, generator: np.random.Generator) -> np.ndarray:
    """Return `length` tokens of a text from a random position on; its beginning follows its end."""
    start = int(generator.integers(len(text)))
    return text.take(np.arange(start, start + length), mode="wrap")


def insert_needles(filler: np.ndarray, needles: Sequence[tuple[float, np.ndarray]]) -> np.ndarray:
    """Insert needles into a filler: token ids with their depths, the share (0 to 1) of the filler before them.

    Needles of equal depth keep their order.
    """
    pieces, taken = [], 0
    for depth, needle in sorted(needles, key=itemgetter(0)):
        end = round(depth * len(filler))
        pieces += [filler[taken:end], needle]
        taken = end
    return np.concatenate([*pieces, filler[taken:]])


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


class RetrievalTask(ABC):
    """A maker of prompts. The same generator makes the same prompt; a depth only moves the fact to be found.

    Attributes:
        name: lower case, with underscores.
        has_depth: whether the fact to be found is at one position, which a depth can choose.
        about: one sentence on the task.
        source: a paper and section.
    """

    name: ClassVar[str]
    has_depth: ClassVar[bool] = True
    about: ClassVar[str]
    source: ClassVar[str]

    @abstractmethod
    def min_length(self, haystack: Haystack, generator: np.random.Generator) -> int:
        """Return the number of tokens of the prompt that this generator makes, without any filler."""

    @abstractmethod
    def prompt(self, haystack: Haystack, length: int, depth: float, generator: np.random.Generator) -> Prompt:
        """Return a prompt of a length in tokens, the answer included, of at least `min_length`.

        The depth is the share of the filler before the fact to be found, from 0 (the beginning) to 1 (right before the
        question); a task without a depth ignores it.
        """


KEYS = (
    *("apples", "boats", "candles", "drums", "feathers", "gloves"),
    *("hammers", "islands", "kettles", "lamps", "mirrors", "needles"),
)
"""Things with a number in the needles."""


@dataclass(frozen=True)
class Needles:
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


class NeedleTask(RetrievalTask):
    """A task whose subclass provides the facts.

    Attributes:
        in_sentences: whether facts are hidden in the short sentences even if the caller has a filler.
        limits: smallest and largest value of each hyperparameter; ValueError outside of them.
    """

    in_sentences: ClassVar[bool] = False
    limits: ClassVar[Mapping[str, tuple[int, int]]]

    def __post_init__(self) -> None:
        for name, (least, most) in self.limits.items():
            if not least <= (value := getattr(self, name)) <= most:
                raise ValueError(f"{name} must be an integer from {least} to {most}, got {value}")

    @abstractmethod
    def needles(self, depth: float, generator: np.random.Generator) -> Needles:
        """Return the facts of one prompt, the first of them at a depth."""

    def min_length(self, haystack: Haystack, generator: np.random.Generator) -> int:
        needles, question, answer = _tokens(haystack, self.needles(0.0, generator))
        return sum(len(needle) for _, needle in needles) + len(question) + len(answer)

    def prompt(self, haystack: Haystack, length: int, depth: float, generator: np.random.Generator) -> Prompt:
        facts = self.needles(depth, generator)
        needles, question, answer = _tokens(haystack, facts)
        room = length - sum(len(needle) for _, needle in needles) - len(question) - len(answer)
        assert room >= 0, "a length below min_length"
        filler = stretch(haystack.sentences if self.in_sentences else haystack.text, room, generator)
        return Prompt(
            np.concatenate([insert_needles(filler, needles), question, answer]), len(answer), facts.log_choices
        )


def _tokens(haystack: Haystack, facts: Needles) -> tuple[list[tuple[float, np.ndarray]], np.ndarray, np.ndarray]:
    needles = [(depth, haystack.tokens(*pieces)) for depth, pieces in facts.needles]
    return needles, *haystack.question_and_answer(facts.question, facts.answer)


def numbers(count: int, digits: int, generator: np.random.Generator) -> list[str]:
    """Return different numbers with this many digits, which may begin with zeros."""
    drawn = generator.choice(10**digits, count, replace=False)
    return [f"{number:0{digits}}" for number in drawn]


def in_order_from(depth: float, count: int, generator: np.random.Generator) -> list[float]:
    """Return ascending depths: the given one, and random ones after it."""
    later = np.sort(generator.random(count - 1))
    return [depth, *(depth + (1 - depth) * later).tolist()]
