"""Scores of a model on each token of a text, in windows under the two usual protocols.

Both predict every token but the first once. *Non-overlapping* windows follow one another, so most tokens see less than
a whole window. *Sliding* windows overlap: each moves by `stride` tokens and predicts only the new ones, so that all
tokens after the first window see nearly a whole one. The ranking of encodings can differ between the two: Press
et al., "Train Short, Test Long" (ICLR 2022), appendix B.

Sliding windows that begin where windows of the other protocol do are the same windows, and are not read again: with a
stride of half a window, every second one. Keys and values of the overlap are not kept, for they are other ones in the
next window: a hidden state depends, through the layers before, on tokens that have left the window. Only keys and
values of the first layer stay, before rotation and without positions in embeddings.

Dimension letters: B windows, T tokens of a window, A targets of a window, N tokens of the text or targets of a piece,
X features, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, distributed, nn

from poslab.data.batch import IGNORE, TokenBatch
from poslab.encodings import Positions
from poslab.evaluation.scores.items import ItemScores
from poslab.models import Model
from poslab.tasks.language_modelling import next_token_batch
from poslab.tasks.token_prediction import losses_and_correct

TOKENS_AT_ONCE = 4096  # tokens of a batch, which has at least one window

MIN_DOCUMENTS, PIECE = 10, 1024

CONTEXT_GAIN = "context_gain"


@dataclass(frozen=True)
class TextWindows:
    """Windows over a text of N tokens; ValueError for a number out of its range."""

    num_tokens: int  # N, at least 2
    length: int  # tokens T of a window, at least 1
    stride: int  # tokens between the starts of windows, between 1 and T; windows of stride T do not overlap

    def __post_init__(self) -> None:
        if self.num_tokens < 2:
            raise ValueError(f"num_tokens must be at least 2, got {self.num_tokens}")
        if self.length < 1:
            raise ValueError(f"length must be a positive integer, got {self.length}")
        if not 1 <= self.stride <= self.length:
            raise ValueError(f"stride must lie between 1 and the window length {self.length}, got {self.stride}")

    def __len__(self) -> int:
        beyond_the_first = max(0, self.num_tokens - 1 - self.length)
        return 1 + -(-beyond_the_first // self.stride)

    def batch(self, tokens: np.ndarray, numbers: np.ndarray, boundary: int | None) -> tuple[TokenBatch, np.ndarray]:
        """Return some windows, by their numbers (B,), as a batch, and the position in the text of each target.

        Tokens are (N,), any integer dtype. A `boundary`, the token that ends a document, keeps documents apart.

        Returns:
            The batch, whose targets are `IGNORE` if an earlier window has predicted them or the text has ended, and
            (B, T) positions of targets in the text, between 1 and N - 1.
        """
        position_BT = self.stride * numbers[:, None] + np.arange(1, self.length + 1)
        inside = np.minimum(np.concatenate([position_BT[:, :1] - 1, position_BT], axis=1), self.num_tokens - 1)
        batch = next_token_batch(tokens[inside], boundary)
        first_B = np.where(numbers == 0, 0, self.length - self.stride)
        left_out_BT = (np.arange(self.length) < first_B[:, None]) | (position_BT >= self.num_tokens)
        # Not in place: a batch of one row shares its memory with the tokens.
        targets_BT = batch.targets.masked_fill(torch.from_numpy(left_out_BT), IGNORE)
        return batch._replace(targets=targets_BT), position_BT

    def is_known(self, numbers: np.ndarray) -> np.ndarray:
        """Return True for the windows that are also windows of the same length that do not overlap."""
        return self.stride * numbers % self.length == 0

    @property
    def predicting(self) -> np.ndarray:
        """Number of the window that predicts each token but the first, (N - 1,)."""
        return np.maximum(0, -((self.length - np.arange(1, self.num_tokens)) // self.stride))

    def numbers(
        self, rows: int, process: int = 0, processes: int = 1, only_unknown: bool = False
    ) -> Iterator[np.ndarray]:
        """Yield the numbers of this process's share of the windows, or of those that are not known, by `rows`."""
        numbers = np.arange(len(self))
        mine = (numbers[~self.is_known(numbers)] if only_unknown else numbers)[process::processes]
        for start in range(0, len(mine), rows):
            yield mine[start : start + rows]


def sampled_units(tokens: np.ndarray, end_id: int) -> np.ndarray:
    """Return the index of the document of each target, (N - 1,); the end of a document belongs to it.

    A text of few documents is split into pieces of `PIECE` tokens.
    """
    documents = np.cumsum(tokens == end_id)[:-1]
    if documents[-1] + 1 >= MIN_DOCUMENTS:
        return documents
    pieces = np.arange(len(documents)) // PIECE
    return np.unique(np.stack([documents, pieces]), axis=1, return_inverse=True)[1].ravel()


@dataclass(frozen=True)
class TokenScores:
    """Scores of a model on each token of a text, read in windows of one kind."""

    # (N - 1,) float32 nats of all tokens but the first; NaN if a token is not predicted, as across documents that are
    # kept apart
    loss: np.ndarray
    correct: np.ndarray  # (N - 1,) bool, whether the token was the most probable one
    context: np.ndarray  # (N - 1,) number of tokens before it in the window; 0 if it is not predicted

    @property
    def numbers(self) -> np.ndarray:
        """All of them, (3, N - 1) float32, of which `of` makes them again."""
        return np.stack([self.loss, self.correct, self.context]).astype(np.float32)

    @classmethod
    def of(cls, numbers: np.ndarray) -> TokenScores:
        """Return scores from their `numbers`."""
        loss, correct, context = numbers
        return cls(loss, correct > 0, context.astype(np.int64))

    @property
    def predicted(self) -> np.ndarray:
        """True for tokens that are predicted, (N - 1,); the loss of one may be NaN all the same."""
        return self.context > 0

    def only(self, kept: np.ndarray) -> TokenScores:
        """Return the scores as if only some of the tokens were predicted; `kept` is (N - 1,) bool."""
        return replace(self, context=np.where(kept, self.context, 0))

    def by_unit(self, units: np.ndarray, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Return the sum of the scaled losses of each unit (`sampled_units`) and the number of its tokens."""
        known, length = self.predicted, units.max() + 1
        sums = np.bincount(units[known], scale * self.loss[known].astype(np.float64), minlength=length)
        return sums, np.bincount(units[known], minlength=length)


def context_gain(
    tokens: np.ndarray,
    end_id: int,
    sizes: np.ndarray,
    trained: tuple[int, TokenScores],
    longer: tuple[int, TokenScores],
    identity: str,
) -> ItemScores | None:
    """Return the gain of context: what a longer sliding window saves on the targets that half of it is before.

        gain = (sum of nats in windows of L - sum of nats in windows of W) / (ln 2 * bytes)

    over the same targets, each with at least W / 2 tokens of its document before it in its window of W, and at
    least L / 2 in its window of L. Above 0, a longer context helps.

    Args:
        tokens: (N,), any integer dtype; `end_id` ends a document.
        sizes: (N - 1,) bytes of each target.
        trained: the training length L and the scores in sliding windows of it.
        longer: a greater length W and the scores in sliding windows of it.

    Returns:
        Bits and bytes of each unit (`sampled_units`); None where no document is long enough.
    """
    (trained_length, shorter), (length, scores) = trained, longer
    numbers = np.arange(1, len(tokens))
    before = numbers - np.maximum.accumulate(np.where(tokens[:-1] == end_id, numbers, 0))  # in the same document
    is_far = (2 * np.minimum(before, scores.context) >= length) & (2 * shorter.context >= trained_length)
    saved = replace(scores, loss=shorter.loss.astype(np.float64) - scores.loss).only(is_far)
    units = sampled_units(tokens, end_id)
    sums, _ = saved.by_unit(units, 1 / math.log(2))
    counts = np.bincount(units[is_far], sizes[is_far], minlength=len(sums)).astype(sizes.dtype)
    if not counts.any():
        return None
    return ItemScores(CONTEXT_GAIN, length, np.where(counts > 0, sums, 0.0), counts, identity)


def score_tokens(
    model: nn.Module,
    tokens: np.ndarray,
    windows: TextWindows,
    boundary: int | None = None,
    check_cancelled: Callable[[], None] = lambda: None,
    known: TokenScores | None = None,
) -> TokenScores:
    """Score a text in windows; processes that have joined share the work, and each returns all scores.

    Args:
        model: takes tokens and returns logits; a `Model` makes them piece by piece, and only logits of targets.
        tokens: (N,), any integer dtype.
        boundary: token that ends a document, to keep documents apart; None does not.
        check_cancelled: called before each batch; may raise an error to stop.
        known: scores of the same text in windows of the same length that do not overlap, so that those which are among
            `windows` are not read again; None reads all.
    """
    device = next(model.parameters()).device
    scores = torch.zeros(3, windows.num_tokens - 1, device=device)  # loss, correct, context
    joined = distributed.is_initialized()
    share = (distributed.get_rank(), distributed.get_world_size()) if joined else (0, 1)
    with torch.no_grad(), evaluating(model):
        for numbers in windows.numbers(max(1, TOKENS_AT_ONCE // windows.length), *share, known is not None):
            check_cancelled()
            batch, position_BT = windows.batch(tokens, numbers, boundary)
            predicted_BT = batch.targets != IGNORE
            positions = None if batch.segments is None else Positions.packed(batch.segments.to(device))
            loss_BT, correct_BT = loss_and_correct(model, batch.tokens.to(device), batch.targets.to(device), positions)
            context_before_BT = torch.arange(windows.length) if positions is None else positions.ids.cpu()
            context_BT = (context_before_BT + 1).expand_as(batch.targets)
            columns = [loss_BT.cpu(), correct_BT.cpu().float(), context_BT.float()]
            position_N = torch.from_numpy(position_BT)[predicted_BT] - 1
            scores[:, position_N] = torch.stack([x[predicted_BT] for x in columns]).to(device)
    if joined:
        distributed.all_reduce(scores)
    numbers_3N = scores.cpu().numpy()
    if known is not None:
        numbers_3N = np.where(windows.is_known(windows.predicting), known.numbers, numbers_3N)
    loss, correct, context = numbers_3N
    return TokenScores.of(np.stack([np.where(context > 0, loss, np.nan), correct, context]))


def loss_and_correct(
    model: nn.Module, tokens_BT: Tensor, targets_BA: Tensor, positions: Positions | None = None
) -> tuple[Tensor, Tensor]:
    """Return the nats of each target and whether it was the most probable token, both (B, A), in bounded memory.

    The model takes tokens and returns logits; a `Model` makes only logits of the targets, `LOGITS_AT_ONCE` at a time.
    Targets are the tokens after the last A tokens, with a loss of 0 at `IGNORE`; positions are 0, 1, ... for None.
    """
    arguments = (tokens_BT,) if positions is None else (tokens_BT, positions)
    head: Callable[[Tensor], Tensor]
    if isinstance(model, Model):
        source_BTX, head, vocab_size = model.hidden_states(*arguments), model.logits, model.embedding.num_embeddings
    else:
        source_BTX, head = model(*arguments), nn.Identity()
        vocab_size = source_BTX.shape[-1]
    counts_BA = targets_BA != IGNORE
    source_NX = source_BTX[:, -targets_BA.shape[1] :][counts_BA]
    losses_N, correct_N = losses_and_correct(head, source_NX, targets_BA[counts_BA], vocab_size)
    zeros_BA = torch.zeros(targets_BA.shape, device=targets_BA.device)
    return zeros_BA.masked_scatter(counts_BA, losses_N), (zeros_BA > 0).masked_scatter(counts_BA, correct_N)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode; afterwards restore the mode of each of its modules."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, was in training.items():
            module.training = was
