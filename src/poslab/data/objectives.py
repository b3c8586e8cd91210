"""What is to be predicted of windows of text: the next token, masked tokens, or spans that were taken out.

Dimensions: B windows, T tokens of a window, U = T + 1 (its tokens and the one that follows).
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from poslab.data.batch import IGNORE, Batch, PairBatch, TokenBatch, make_batch


class Objective(Protocol):
    """Makes batches of windows."""

    def __call__(self, windows_BU: np.ndarray, missing_BU: np.ndarray, numbers: Sequence[int]) -> Batch:
        """The batch of these windows.

        Args:
            windows_BU: token ids.
            missing_BU: True behind the end of the text, where nothing is to be predicted.
            numbers: of the windows: what is random in one is a function of its number.
        """


class NextToken:
    """Predict each token from those before it.

    Args:
        boundary: the token that ends a document, where documents are kept apart; None: they are not.
    """

    def __init__(self, boundary: int | None) -> None:
        self.boundary = boundary

    def __call__(self, windows_BU: np.ndarray, missing_BU: np.ndarray, numbers: Sequence[int]) -> TokenBatch:
        batch = make_batch(windows_BU, self.boundary)
        missing_BT = torch.from_numpy(missing_BU[:, 1:])
        return batch._replace(targets=batch.targets.masked_fill(missing_BT, IGNORE)) if missing_BU.any() else batch


class MaskedTokens:
    """Predict tokens that were chosen at random from all others: of them 80 % are masked, 10 % are others, 10 % stay.

    Args:
        mask_id: the token that masks.
        vocab_size: number of tokens of text.
        boundary: the token that ends a document, where documents are kept apart; None: they are not.
        share: of the tokens that are chosen; exactly as many in each window, to the nearest.

    Source: Devlin et al., "BERT" (2019), section 3.1.
    """

    def __init__(self, mask_id: int, vocab_size: int, boundary: int | None, share: float = 0.15) -> None:
        self.mask_id = mask_id
        self.vocab_size = vocab_size
        self.boundary = boundary
        self.share = share

    def __call__(self, windows_BU: np.ndarray, missing_BU: np.ndarray, numbers: Sequence[int]) -> TokenBatch:
        segments = make_batch(windows_BU, self.boundary).segments
        tokens_BT, missing_BT = windows_BU[:, :-1].astype(np.int64), missing_BU[:, :-1]
        targets_BT = np.full_like(tokens_BT, IGNORE)
        for row, number in enumerate(numbers):
            generator = np.random.default_rng(number)
            there = np.flatnonzero(~missing_BT[row])
            chosen = generator.permutation(there)[: max(1, round(self.share * len(there)))] if len(there) else there
            targets_BT[row, chosen] = tokens_BT[row, chosen]
            fate = generator.random(len(chosen))
            tokens_BT[row, chosen[fate < 0.8]] = self.mask_id
            others = chosen[fate >= 0.9]
            tokens_BT[row, others] = generator.integers(self.vocab_size, size=len(others))
        real = torch.from_numpy(~missing_BT) if missing_BT.any() else None
        if real is not None:
            real[~real.any(-1), 0] = True  # a row that does not count sees itself
        return TokenBatch(torch.from_numpy(tokens_BT), torch.from_numpy(targets_BT), segments, real)


class CorruptedSpans:
    """Write the spans that were taken out of a text at random, each behind the token that stands in its place.

    Of `a b c d e f g h`, where `c d` and `h` are taken out: source `a b <0> e f g <1>`, target `<0> c d <1> h end`. The
    first token is never taken out, and the last always is.

    Args:
        first_sentinel: the first of the tokens that stand for spans, which follow one another.
        end_id: the token that ends a document, which the target ends with, and begins with in the decoder.
        share: of the tokens that are taken out.
        mean_span: mean length of a span.

    Source: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer" (2020),
    section 3.1.4.
    """

    def __init__(self, first_sentinel: int, end_id: int, share: float = 0.15, mean_span: float = 3.0) -> None:
        self.first_sentinel = first_sentinel
        self.end_id = end_id
        self.share = share
        self.mean_span = mean_span

    def num_spans(self, length: int) -> int:
        """How many spans are taken out of a window of T tokens."""
        return max(1, round(self._num_taken(length) / self.mean_span))

    def _num_taken(self, length: int) -> int:
        return min(max(1, round(length * self.share)), length - 1)

    def __call__(self, windows_BU: np.ndarray, missing_BU: np.ndarray, numbers: Sequence[int]) -> PairBatch:
        tokens_BT = windows_BU[:, :-1].astype(np.int64)
        length = tokens_BT.shape[1]
        spans, taken = self.num_spans(length), self._num_taken(length)
        sentinels = self.first_sentinel + np.arange(spans)
        sources, targets = [], []
        for tokens, number in zip(tokens_BT, numbers, strict=True):
            generator = np.random.default_rng(number)
            kept_lengths = self._parts(length - taken, spans, generator)
            taken_lengths = self._parts(taken, spans, generator)
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
        target[torch.from_numpy(missing_BU[:, :-1].any(-1))] = IGNORE  # the end of a text fills no window
        return PairBatch(source, None, read, target)

    @staticmethod
    def _parts(total: int, count: int, generator: np.random.Generator) -> np.ndarray:
        """A total in that many parts of at least 1, all ways to do so being as likely."""
        cuts = np.sort(generator.choice(total - 1, count - 1, replace=False) + 1)
        return np.diff(np.concatenate([[0], cuts, [total]]))
