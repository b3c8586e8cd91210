"""Tasks whose targets are written from a source, measured token by token."""

from __future__ import annotations

from typing import ClassVar

from poslab.data.batch import PairBatch, TokenBatch
from poslab.encodings import Contiguous, PositionSampler
from poslab.models import Model
from poslab.tasks.task import Sums, Task
from poslab.tasks.token_prediction import perplexity_figures, predict_tokens, token_sums


class TargetPrediction(Task):
    """A task whose targets are written from a source: each token is predicted from the right ones before it."""

    headline = "loss"
    validated: ClassVar[tuple[str, ...]] = ("loss", "perplexity", "accuracy")

    def loss(self, model: Model, batch: PairBatch | TokenBatch) -> Sums:
        if isinstance(batch, PairBatch):
            return token_sums(model(batch.source, batch.target, batch.real_source), batch.targets)
        return token_sums(predict_tokens(model, batch), batch.targets)

    def figures(self, split: str, loss: float, accuracy: float) -> dict[str, float]:
        return perplexity_figures(loss, accuracy)


def require_contiguous(positions: PositionSampler | None) -> None:
    """Raise ValueError for positions that are drawn, which a target and its source would not share."""
    if positions is not None and not isinstance(positions, Contiguous):
        drawn = type(positions).__name__.lower()
        raise ValueError(f"positions must be contiguous where a target is written of a source, got {drawn}")
