"""The tasks on windows of text: the next token, masked tokens, and masked spans.

Dimension letters: B windows, T tokens of a window, U = T + 1 (its tokens and the one that follows).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch

from poslab.data.batch import IGNORE, TokenBatch
from poslab.data.corpus import WindowRows
from poslab.data.kinds import WINDOWS
from poslab.encodings import PositionSampler
from poslab.tasks.task import OF_WINDOWS
from poslab.tasks.token_prediction import PairBatch, TargetPrediction, TokenPrediction, with_perplexity

MIN_CONTEXT_GAIN = 0.001  # bits per byte: longer context with a gain that is surely below it is not used
CONTEXT_MARGIN = 0.02  # bits per byte by which windows beyond the training length may be worse, and not degrade


class LanguageModelling(TokenPrediction):
    """Predict each token from those before it, in its own document.

    Args:
        bytes_per_token: bytes of text per predicted token of each split (`train`, `validation`, `test`), which turn
            nats per token into bits per byte.
        boundary: the token that ends a document, where documents are kept apart; None: they are not.
    """

    kind = WINDOWS
    needs = frozenset({"causal"})
    generation_options = ("max_new_tokens", "temperature", "top_k", "top_p", "seed")
    headline = "bits_per_byte"
    validated = ("loss", "bits_per_byte", "perplexity", "accuracy")
    shown = ("loss", "perplexity", "bits_per_byte")
    aggregate_lengths = False
    length_words = OF_WINDOWS
    predicts_next_tokens = True

    def __init__(self, bytes_per_token: Mapping[str, float], boundary: int | None = None) -> None:
        self.bytes_per_token = bytes_per_token
        self.boundary = boundary

    @classmethod
    def of(cls, data: Any) -> LanguageModelling:
        return cls(data.splits.bytes_per_token, data.splits.boundary)

    def collate(self, rows: WindowRows, counts: np.ndarray) -> TokenBatch:
        batch = next_token_batch(rows.tokens, self.boundary)
        if rows.earlier is not None:
            batch = batch._replace(earlier=torch.from_numpy(rows.earlier.astype(np.int64)))
        missing_BT = torch.from_numpy(~counts[:, 1:])
        return batch if counts.all() else batch._replace(targets=batch.targets.masked_fill(missing_BT, IGNORE))

    def with_earlier_tokens(self, batch: TokenBatch) -> TokenBatch:
        if batch.earlier is None:
            return batch
        tokens = torch.cat([batch.earlier, batch.tokens], dim=1)
        targets = torch.cat([torch.full_like(batch.earlier, IGNORE), batch.targets], dim=1)
        return TokenBatch(tokens, targets, None if self.boundary is None else segments(tokens, self.boundary))

    def from_means(self, split: str, loss: float, accuracy: float) -> dict[str, float]:
        metrics = with_perplexity(loss, accuracy)
        return {"loss": loss, "bits_per_byte": loss / math.log(2) / self.bytes_per_token[split], **metrics}


def next_token_batch(windows: np.ndarray, boundary: int | None) -> TokenBatch:
    """Return windows of T + 1 successive tokens, (B, U), any integer dtype, as inputs and targets.

    Documents are kept apart if a `boundary` ends them: the next token begins a new segment and is not predicted.

    Example: with boundary 9, the window 5 9 6 7 gives tokens 5 9 6, targets 9 -100 7, segments 0 0 1.
    """
    windows_BU = torch.from_numpy(windows.astype(np.int64))
    tokens_BT, targets_BT = windows_BU[:, :-1].contiguous(), windows_BU[:, 1:].contiguous()
    if boundary is None:
        return TokenBatch(tokens_BT, targets_BT)
    return TokenBatch(tokens_BT, targets_BT.masked_fill(tokens_BT == boundary, IGNORE), segments(tokens_BT, boundary))


def segments(tokens_BT: torch.Tensor, boundary: int) -> torch.Tensor:
    """Return the number of the document of each token within its row, (B, T) int64, from 0; `boundary` ends each."""
    ends_BT = tokens_BT == boundary
    return ends_BT.cumsum(1) - ends_BT.long()


class MaskedLanguageModelling(TokenPrediction):
    """Predict random tokens from all others: 80% of them are masked, 10% replaced by others, and 10% stay.

    The perplexity is only of these tokens, and no bits per byte follow from it.

    Args:
        vocab_size: number of tokens of text.
        boundary: the token that ends a document, where documents are kept apart; None: they are not.
        share: of the tokens that are chosen, the same number in each window, to the nearest.
        mask: the token that replaces a masked one; None is a new token after the tokens of text.

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


class SpanCorruption(TargetPrediction):
    """Write the spans that were removed from a text at random, each after the sentinel that replaces it.

    Example: `a b c d e f g h` without `c d` and `h` gives the source `a b <0> e f g <1>` and the target `<0> c d <1> h
    end`. The first token always stays, and the last never does. Predictions are measured only token by token.

    Args:
        first_sentinel: the first sentinel; their numbers follow one another.
        end_id: the token that ends a document and the target, and begins the input of the decoder.
        longest: tokens of the longest window, which has the most spans.
        share: of the tokens that are removed.
        mean_span: mean length of a span.

    Source: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer" (2020),
    section 3.1.4.
    """

    kind = WINDOWS
    needs = frozenset({"source"})
    shown = ("loss", "perplexity", "accuracy")
    aggregate_lengths = False
    length_words = OF_WINDOWS

    def __init__(
        self, first_sentinel: int, end_id: int, longest: int, share: float = 0.15, mean_span: float = 3.0
    ) -> None:
        self.first_sentinel = first_sentinel
        self.end_id = end_id
        self.share = share
        self.mean_span = mean_span
        self.extra_tokens = self.num_spans(longest)

    @classmethod
    def check(cls, source: Any, positions: PositionSampler | None) -> None:
        super().check(source, positions)
        if source.document_boundaries:
            raise ValueError(
                "dataset.document_boundaries must be false for an encoder_decoder, which reads windows whole"
            )
        if source.sequence_length < 2:
            raise ValueError("dataset.sequence_length must be at least 2, for a token to be taken out of two")

    @classmethod
    def of(cls, data: Any) -> SpanCorruption:
        return cls(data.vocab_size, data.tokenizer.end_id, data.source.longest)

    def num_spans(self, length: int) -> int:
        """Return the number of spans that are removed from a window of T tokens."""
        return max(1, round(self._num_taken(length) / self.mean_span))

    def _num_taken(self, length: int) -> int:
        return min(max(1, round(length * self.share)), length - 1)

    def collate(self, rows: WindowRows, counts: np.ndarray) -> PairBatch:
        tokens_BT = rows.tokens[:, :-1].astype(np.int64)
        length = tokens_BT.shape[1]
        spans, taken = self.num_spans(length), self._num_taken(length)
        if spans > self.extra_tokens:
            raise ValueError(
                f"lengths must have at most {self.extra_tokens} spans, for which the model has sentinels, "
                f"got {length:,} with {spans}"
            )
        sentinels = self.first_sentinel + np.arange(spans)
        sources, targets = [], []
        for tokens, number in zip(tokens_BT, rows.numbers, strict=True):
            generator = np.random.default_rng(number)
            kept_lengths = _parts(length - taken, spans, generator)
            taken_lengths = _parts(taken, spans, generator)
            cuts = np.cumsum(np.stack([kept_lengths, taken_lengths], axis=1).ravel())
            pieces = np.split(tokens, cuts[:-1])
            kept, out, marks = pieces[::2], pieces[1::2], sentinels[:, None]
            sources.append(np.concatenate([*chain(*zip(kept, marks, strict=True))]))
            targets.append(np.concatenate([*chain(*zip(marks, out, strict=True)), [self.end_id]]))
        source, target = torch.from_numpy(np.stack(sources)), torch.from_numpy(np.stack(targets))
        read = target.roll(1, dims=1)
        read[:, 0] = self.end_id
        target[torch.from_numpy(~counts[:, :-1].all(-1))] = IGNORE  # the end of a text fills no window
        return PairBatch(source, None, read, target)


def _parts(total: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """Split a total into that many parts of at least 1; all ways to do so are equally likely."""
    cuts = np.sort(generator.choice(total - 1, count - 1, replace=False) + 1)
    return np.diff(np.concatenate([[0], cuts, [total]]))
