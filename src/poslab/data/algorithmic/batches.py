"""Examples of an algorithmic task as token ids and as batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from poslab.data.algorithmic.task import Example
from poslab.data.batch import IGNORE, TokenBatch, padded, unless_whole
from poslab.data.tokenizers import SymbolTokenizer


class WrittenAnswers:
    """Makes batches for a decoder: `input answer output end` is one text, of which output and end are predicted.

    Args:
        tokenizer: a symbol a token, and the tokens `answer` and `end`.
    """

    def __init__(self, tokenizer: SymbolTokenizer) -> None:
        self.tokenizer = tokenizer

    def __call__(self, examples: Sequence[Example], counts: np.ndarray) -> TokenBatch:
        """The batch of these examples, of which some do not count."""
        number = self.tokenizer.number
        answer, end = self.tokenizer.answer_id, self.tokenizer.end_id
        rows = [np.array([*map(number, e.input), answer, *map(number, e.output), end]) for e in examples]
        whole, real = padded(rows)
        tokens, targets, real = whole[:, :-1].contiguous(), whole[:, 1:].masked_fill(~real[:, 1:], IGNORE), real[:, :-1]
        for place, example in enumerate(examples):
            targets[place, : len(example.input)] = IGNORE
        targets[torch.from_numpy(~counts)] = IGNORE
        return TokenBatch(tokens, targets, real=unless_whole(real.contiguous()))


class AnswersAtPlaces:
    """Makes batches for an encoder: after the input, a token `answer` for each symbol of the output that it is to tell.

    Args:
        tokenizer: a symbol a token, and the token `answer`.

    Source: Ruoss et al., "Randomized Positional Encodings Boost Length Generalization of Transformers" (ACL 2023).
    """

    def __init__(self, tokenizer: SymbolTokenizer) -> None:
        self.tokenizer = tokenizer

    def __call__(self, examples: Sequence[Example], counts: np.ndarray) -> TokenBatch:
        """The batch of these examples, of which some do not count."""
        number, answer = self.tokenizer.number, self.tokenizer.answer_id
        tokens, real = padded([np.array([*map(number, e.input), *[answer] * len(e.output)]) for e in examples])
        targets, told = padded([np.array([*[IGNORE] * len(e.input), *map(number, e.output)]) for e in examples])
        targets = targets.masked_fill(~told, IGNORE)
        targets[torch.from_numpy(~counts)] = IGNORE
        return TokenBatch(tokens, targets, real=unless_whole(real))
