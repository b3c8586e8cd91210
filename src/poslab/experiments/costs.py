"""Costs of training that a comparison sets beside its metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """A cost of a run.

    Args:
        tag: of its metric in metrics.json.
        words: what it is, for the axis of a figure.
        more_is_better: False where less is better.
    """

    tag: str
    words: str
    more_is_better: bool = False


COSTS = {
    "parameters": Cost("parameters", "parameters"),
    "train_tokens_per_second": Cost("train/tokens_per_second", "tokens per second of training", more_is_better=True),
    "seconds": Cost("train/seconds", "seconds of training"),
    "memory": Cost("memory/peak_mb", "memory of training in MB"),
}
"""Costs by the name that a comparison gives them."""
