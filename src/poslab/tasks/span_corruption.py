"""The task of writing what was taken out of a text."""

from __future__ import annotations

from poslab.tasks.target_prediction import TargetPrediction


class SpanCorruption(TargetPrediction):
    """Write the spans that were taken out of a text. What is written is measured token by token alone.

    Args:
        num_spans: the most spans that are taken out of a window.
    """

    answers = False
    shown = ("loss", "perplexity", "accuracy")
    pools_lengths = False

    def __init__(self, num_spans: int) -> None:
        self.extra_tokens = num_spans
