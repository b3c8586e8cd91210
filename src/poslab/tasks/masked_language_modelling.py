"""The task of filling in what is masked."""

from __future__ import annotations

import math

from poslab.tasks.token_prediction import TokenPrediction


class MaskedLanguageModelling(TokenPrediction):
    """Predict masked tokens from all others. Its perplexity is of these alone, and no bits per byte follow from it."""

    headline = "loss"
    shown = validated = ("loss", "perplexity", "accuracy")
    pools_lengths = False
    extra_tokens = 1

    def figures(self, split: str, loss: float, accuracy: float) -> dict[str, float]:
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "accuracy": accuracy}
