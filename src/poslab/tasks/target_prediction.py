"""Tasks whose targets are written from a source, measured token by token.

Dimension letters: B pairs, T tokens of a target, S tokens of a source, V vocabulary.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from poslab.data.batch import IGNORE, TokenBatch
from poslab.encodings import Contiguous, PositionSampler
from poslab.models import Model
from poslab.tasks.token_prediction import TokenPrediction, with_perplexity


class PairBatch(NamedTuple):
    """Sources and the targets to be written from them.

    Args:
        source: token ids, (B, S) int64.
        real_source: (B, S) bool, False at padding; None where there is none.
        target: input of the decoder, (B, T) int64, which begins with the same token in every row.
        targets: the token to predict after each of these, (B, T) int64; `IGNORE` at padding.
    """

    source: Tensor
    real_source: Tensor | None
    target: Tensor
    targets: Tensor

    @property
    def num_tokens(self) -> Tensor:
        sources = self.source.numel() if self.real_source is None else self.real_source.sum()
        return sources + (self.targets != IGNORE).sum()


class TargetPrediction(TokenPrediction):
    """A task whose targets are written from a source: each token is predicted from the right ones before it."""

    headline = "loss"
    validated: ClassVar[tuple[str, ...]] = ("loss", "perplexity", "accuracy")

    @classmethod
    def check(cls, source: Any, positions: PositionSampler | None) -> None:
        if positions is not None and not isinstance(positions, Contiguous):  # not shared with the source
            drawn = type(positions).__name__.lower()
            raise ValueError(f"positions must be contiguous where a target is written of a source, got {drawn}")

    def logits(self, model: Model, batch: PairBatch | TokenBatch) -> Tensor:
        if isinstance(batch, PairBatch):
            logits_BTV: Tensor = model(batch.source, batch.target, batch.real_source)
            return logits_BTV
        return super().logits(model, batch)

    def first_tokens(self, batch: PairBatch | TokenBatch, length: int) -> Any:
        if not isinstance(batch, PairBatch):
            return super().first_tokens(batch, length)
        if max(batch.source.shape[1], batch.target.shape[1]) <= length:
            return batch
        real = torch.ones_like(batch.source) if batch.real_source is None else batch.real_source
        is_cut_B1 = real[:, length:].any(-1, keepdim=True)
        return PairBatch(
            batch.source[:, :length],
            None if batch.real_source is None else batch.real_source[:, :length],
            batch.target[:, :length],
            batch.targets[:, :length].masked_fill(is_cut_B1, IGNORE),
        )

    def from_means(self, split: str, loss: float, accuracy: float) -> dict[str, float]:
        return with_perplexity(loss, accuracy)
