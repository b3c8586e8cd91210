from __future__ import annotations

import math
from typing import ClassVar

from torch import nn

from poslab.data.batch import PairBatch, TokenBatch
from poslab.tasks.task import Sums, Task
from poslab.tasks.token_prediction import predict_tokens, token_sums


class TargetPrediction(Task):
    """Tasks whose targets are written of a source: each token is predicted from the right ones before it."""

    headline = "loss"
    validated: ClassVar[tuple[str, ...]] = ("loss", "perplexity", "accuracy")

    def sums(self, model: nn.Module, batch: PairBatch | TokenBatch) -> Sums:
        if isinstance(batch, PairBatch):
            return token_sums(model(batch.source, batch.target, batch.real_source), batch.targets)
        return token_sums(predict_tokens(model, batch), batch.targets)

    def figures(self, split: str, loss: float, accuracy: float) -> dict[str, float]:
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "accuracy": accuracy}
