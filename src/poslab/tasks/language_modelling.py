"""The task of predicting the next token."""

from __future__ import annotations

import math
from collections.abc import Mapping

from poslab.tasks.token_prediction import TokenPrediction


class LanguageModelling(TokenPrediction):
    """Predict each token from those before it, in its own document.

    Args:
        bytes_per_token: bytes of text per predicted token of each split (`train`, `validation`, `test`), which turn
            nats per token into bits per byte.
    """

    headline = "bits_per_byte"
    validated = ("loss", "bits_per_byte", "perplexity", "accuracy")
    shown = ("loss", "perplexity", "bits_per_byte")
    pools_lengths = False

    def __init__(self, bytes_per_token: Mapping[str, float]) -> None:
        self.bytes_per_token = bytes_per_token

    def figures(self, split: str, loss: float, accuracy: float) -> dict[str, float]:
        return {
            "loss": loss,
            "bits_per_byte": loss / math.log(2) / self.bytes_per_token[split],
            "perplexity": math.exp(min(loss, 700.0)),  # e ** 709 is the largest float64
            "accuracy": accuracy,
        }
