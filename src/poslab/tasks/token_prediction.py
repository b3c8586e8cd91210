"""Tasks that predict tokens at their places.

Dimension letters: B batch, T tokens, V vocabulary, N tokens of all rows.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from poslab.data.batch import IGNORE, TokenBatch
from poslab.encodings import Positions
from poslab.models import Model
from poslab.tasks.measurement import Sums
from poslab.tasks.task import Distributions, Task


class TokenPrediction(Task):
    """A task whose targets are tokens, one at each place of a text or none."""

    def logits(self, model: Model, batch: Any) -> Tensor:
        return predict_tokens(model, batch)

    def sums(self, logits_BTV: Tensor, batch: Any) -> Sums:
        return token_sums(logits_BTV, batch.targets)

    def distributions(self, logits_BTV: Tensor, batch: Any) -> Distributions:
        return Distributions(logits_BTV, (batch.targets != IGNORE).float())

    def first_tokens(self, batch: Any, length: int) -> Any:
        if batch.tokens.shape[1] <= length:
            return batch
        segments, real = (part if part is None else part[:, :length] for part in (batch.segments, batch.real))
        return TokenBatch(batch.tokens[:, :length], batch.targets[:, :length], segments, real)

    def hidden_states(self, model: Model, batch: Any) -> Tensor:
        return model.hidden_states(batch.tokens, *_seen(model, batch))


def predict_tokens(model: Model, batch: TokenBatch) -> Tensor:
    """Return logits at each place, (B, T, V)."""
    logits_BTV: Tensor = model(batch.tokens, *_seen(model, batch))
    return logits_BTV


def _seen(model: Model, batch: TokenBatch) -> tuple[Positions | None, Tensor | None]:
    """Return the positions of a batch and its mask, as a model needs them."""
    positions = None if batch.segments is None else Positions.packed(batch.segments)
    # Padding comes last, where no token of a causal model sees it: without a mask its attention is faster.
    return positions, None if "causal" in model.capabilities else batch.real


def with_perplexity(loss: float, accuracy: float) -> dict[str, float]:
    """Return a mean loss (nats), its perplexity and an accuracy."""
    perplexity = math.exp(min(loss, 700.0))  # e ** 709 is the largest float64
    return {"loss": loss, "perplexity": perplexity, "accuracy": accuracy}


def token_sums(logits_BTV: Tensor, targets_BT: Tensor) -> Sums:
    """Return loss, right predictions and number of the targets."""
    logits_NV, targets_N = logits_BTV.flatten(0, 1).float(), targets_BT.flatten()
    loss = functional.cross_entropy(logits_NV, targets_N, ignore_index=IGNORE, reduction="sum")
    with torch.no_grad():
        correct = (logits_NV.argmax(-1) == targets_N).sum()
        counted = (targets_N != IGNORE).sum()
    return Sums(loss, correct, counted)
