"""Scores of a model on each token of a text, from logits that are made piece by piece.

Dimension letters: B windows, T tokens of a window, A targets of a window, N tokens of the text or targets of a piece,
X features, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from poslab.data.batch import IGNORE
from poslab.encodings import Positions
from poslab.evaluation.scores.windows import Windows
from poslab.models import Model

TOKENS_AT_ONCE = 4096
"""Tokens of a batch, which has at least one window."""

LOGITS_AT_ONCE = 2**24
"""Logits in memory at a time, for any length of window and any vocabulary."""


@dataclass(frozen=True)
class TokenScores:
    """Scores of a model on each token of a text, read in windows of one kind.

    Args:
        loss: (N - 1,) float32 nats of all tokens but the first; NaN if a token is not predicted, as across documents
            that are kept apart.
        correct: (N - 1,) bool, whether the token was the most probable one.
        context: (N - 1,) number of tokens before it in the window; 0 if it is not predicted.
    """

    loss: np.ndarray
    correct: np.ndarray
    context: np.ndarray

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
        """Return the sum of the losses of each unit, float64, and the number of its predicted tokens.

        Args:
            units: (N - 1,) index of the unit of each token, as of `sampled_units`.
            scale: factor on the losses, such as that from nats to bits per byte.
        """
        known, length = self.predicted, units.max() + 1
        sums = np.bincount(units[known], scale * self.loss[known].astype(np.float64), minlength=length)
        return sums, np.bincount(units[known], minlength=length)


def score_tokens(
    model: nn.Module,
    tokens: np.ndarray,
    windows: Windows,
    boundary: int | None = None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> TokenScores:
    """Score a text in windows; processes that have joined share the work, and each returns all scores.

    The model takes tokens and returns logits; a `Model` makes them piece by piece. Tokens are (N,) of any integer
    dtype; `boundary` is the token that ends a document, to keep documents apart, or None. `check_cancelled` is
    called before each batch, and may raise an error to stop.
    """
    device = next(model.parameters()).device
    scores = torch.zeros(3, windows.num_tokens - 1, device=device)  # loss, correct, context
    joined = distributed.is_initialized()
    share = (distributed.get_rank(), distributed.get_world_size()) if joined else (0, 1)
    with torch.no_grad(), evaluating(model):
        for numbers in windows.numbers(max(1, TOKENS_AT_ONCE // windows.length), *share):
            check_cancelled()
            batch, place_BT = windows.batch(tokens, numbers, boundary)
            predicted_BT = batch.targets != IGNORE
            positions = None if batch.segments is None else Positions.packed(batch.segments.to(device))
            loss_BT, correct_BT = loss_and_correct(model, batch.tokens.to(device), batch.targets.to(device), positions)
            place_in_text_BT = torch.arange(windows.length) if positions is None else positions.ids.cpu()
            context_BT = (place_in_text_BT + 1).expand_as(batch.targets)
            columns = [loss_BT.cpu(), correct_BT.cpu().float(), context_BT.float()]
            place_N = torch.from_numpy(place_BT)[predicted_BT] - 1
            scores[:, place_N] = torch.stack([x[predicted_BT] for x in columns]).to(device)
    if joined:
        distributed.all_reduce(scores)
    loss, correct, context = scores.cpu().numpy()
    return TokenScores.of(np.stack([np.where(context > 0, loss, np.nan), correct, context]))


def loss_and_correct(
    model: nn.Module, tokens_BT: Tensor, targets_BA: Tensor, positions: Positions | None = None
) -> tuple[Tensor, Tensor]:
    """Return the nats of each target and whether it was the most probable token, both (B, A), in bounded memory.

    The model takes tokens and returns logits; a `Model` makes only those of the targets, `LOGITS_AT_ONCE` at a time.
    Targets are the tokens after the last A tokens; positions are 0, 1, ... for None.
    """
    arguments = (tokens_BT,) if positions is None else (tokens_BT, positions)
    head: Callable[[Tensor], Tensor]
    if isinstance(model, Model):
        source_BTX, head, vocab_size = model.hidden_states(*arguments), model.logits, model.embedding.num_embeddings
    else:
        source_BTX, head = model(*arguments), nn.Identity()
        vocab_size = source_BTX.shape[-1]
    source_NX = source_BTX[:, -targets_BA.shape[1] :].flatten(0, 1)
    rows = max(1, LOGITS_AT_ONCE // vocab_size)
    losses, corrects = [], []
    for source, targets_N in zip(source_NX.split(rows), targets_BA.flatten().split(rows), strict=True):
        logits_NV = head(source).float()
        losses.append(functional.cross_entropy(logits_NV, targets_N, ignore_index=IGNORE, reduction="none"))
        corrects.append(logits_NV.argmax(-1) == targets_N)
    return torch.cat(losses).view_as(targets_BA), torch.cat(corrects).view_as(targets_BA)


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
