"""The task of predicting masked tokens.

Dimension letters: B windows, T tokens of a window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from poslab.data.batch import IGNORE, TokenBatch
from poslab.data.corpus import WindowRows
from poslab.data.kinds import WINDOWS
from poslab.tasks.language_modelling import segments
from poslab.tasks.task import OF_WINDOWS
from poslab.tasks.token_prediction import TokenPrediction, with_perplexity


class MaskedLanguageModelling(TokenPrediction):
    """Predict random tokens from all others: 80% of them are masked, 10% replaced by others, and 10% stay.

    The perplexity is only of these tokens, and no bits per byte follow from it.

    Args:
        vocab_size: number of tokens of text.
        boundary: the token that ends a document, where documents are kept apart; None: they are not.
        share: of the tokens that are chosen, the same number in each window, to the nearest.
        mask: the token that replaces a masked one; None is a new token after those of text.

    Source: Devlin et al., "BERT" (2019), section 3.1.
    """

    kind = WINDOWS
    needs = frozenset({"bidirectional"})
    headline = "loss"
    shown = validated = ("loss", "perplexity", "accuracy")
    aggregate_lengths = False
    length_words = OF_WINDOWS

    def __init__(
        self, vocab_size: int, boundary: int | None = None, share: float = 0.15, mask: int | None = None
    ) -> None:
        self.vocab_size = vocab_size
        self.mask = vocab_size if mask is None else mask
        self.extra_tokens = 1 if mask is None else 0
        self.boundary = boundary
        self.share = share

    @classmethod
    def of(cls, data: Any) -> MaskedLanguageModelling:
        return cls(data.vocab_size, data.splits.boundary, mask=data.tokenizer.mask_id)

    def collate(self, rows: WindowRows, counts: np.ndarray) -> TokenBatch:
        tokens_BT, there_BT = rows.tokens[:, :-1].astype(np.int64), counts[:, :-1]
        text_BT = torch.from_numpy(tokens_BT.copy())
        targets_BT = np.full_like(tokens_BT, IGNORE)
        for row, number in enumerate(rows.numbers):
            generator = np.random.default_rng(number)
            there = np.flatnonzero(there_BT[row])
            chosen = generator.permutation(there)[: max(1, round(self.share * len(there)))] if len(there) else there
            targets_BT[row, chosen] = tokens_BT[row, chosen]
            fate = generator.random(len(chosen))
            tokens_BT[row, chosen[fate < 0.8]] = self.mask
            others = chosen[fate >= 0.9]
            tokens_BT[row, others] = generator.integers(self.vocab_size, size=len(others))
        real = None if there_BT.all() else torch.from_numpy(there_BT.copy())
        if real is not None:
            real[~real.any(-1), 0] = True  # a row that does not count sees itself
        of_documents = None if self.boundary is None else segments(text_BT, self.boundary)
        return TokenBatch(torch.from_numpy(tokens_BT), torch.from_numpy(targets_BT), of_documents, real)

    def from_means(self, split: str, loss: float, accuracy: float) -> dict[str, float]:
        return with_perplexity(loss, accuracy)
