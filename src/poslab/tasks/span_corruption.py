"""The task of writing spans that were removed from a text.

Dimension letters: B windows, T tokens of a window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from poslab.data.batch import IGNORE
from poslab.data.corpus import WindowRows
from poslab.data.kinds import WINDOWS
from poslab.encodings import PositionSampler
from poslab.tasks.task import OF_WINDOWS
from poslab.tasks.token_prediction import PairBatch, TargetPrediction


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
            kept, out = pieces[::2], pieces[1::2]
            sources.append(
                np.concatenate([part for pair in zip(kept, sentinels[:, None], strict=True) for part in pair])
            )
            written = [part for pair in zip(sentinels[:, None], out, strict=True) for part in pair]
            targets.append(np.concatenate([*written, [self.end_id]]))
        source, target = torch.from_numpy(np.stack(sources)), torch.from_numpy(np.stack(targets))
        read = target.roll(1, dims=1)
        read[:, 0] = self.end_id
        target[torch.from_numpy(~counts[:, :-1].all(-1))] = IGNORE  # the end of a text fills no window
        return PairBatch(source, None, read, target)


def _parts(total: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """Split a total into that many parts of at least 1; all ways to do so are equally likely."""
    cuts = np.sort(generator.choice(total - 1, count - 1, replace=False) + 1)
    return np.diff(np.concatenate([[0], cuts, [total]]))
