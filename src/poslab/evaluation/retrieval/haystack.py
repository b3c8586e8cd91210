"""Haystacks of prompts: tokens of text to hide something in."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

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
    """Return `length` tokens of a text from a random place on; its beginning follows its end."""
    start = int(generator.integers(len(text)))
    return text.take(np.arange(start, start + length), mode="wrap")


def insert_needles(filler: np.ndarray, needles: Sequence[tuple[float, np.ndarray]]) -> np.ndarray:
    """Insert needles into a filler: token ids with their depths, the share (0 to 1) of the filler before them.

    Needles of equal depth keep their order.
    """
    pieces, taken = [], 0
    for depth, needle in sorted(needles, key=itemgetter(0)):
        place = round(depth * len(filler))
        pieces += [filler[taken:place], needle]
        taken = place
    return np.concatenate([*pieces, filler[taken:]])
