"""Scores of test items, by which runs are compared on the same items.

An item is an example, a window of text, or a document or piece of one (`sampled_units`). Dimension letter: N items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class ItemScores:
    """The scores of a metric on all items of a split, or on those of one length.

        value = sum(sums) / sum(counts)

    Args:
        metric: its name, as in metrics.json; `sliding_bits_per_byte` is that of sliding windows.
        length: of the items, or of the windows in which they are read; None is the whole split.
        sums: (N,) float64, sum of the metric over the tokens or answers of each item, in the unit of metrics.json.
        counts: (N,) int64, number of these; 0 for an item that does not count, as where the model has no positions.
        identity: equal for runs whose items are the same.
    """

    metric: str
    length: int | None
    sums: np.ndarray
    counts: np.ndarray
    identity: str

    @property
    def value(self) -> float:
        """The metric over all items, in the unit of metrics.json."""
        return float(self.sums.sum() / self.counts.sum())

    @property
    def linearised(self) -> np.ndarray:
        """Scores of the items whose mean is the value, (N,) float64.

            score_i = R + (s_i - R c_i) / mean(c),    R = sum(s) / sum(c)

        Their spread is that of the ratio R to first order. Where each item counts once, they are the sums themselves.
        An item that does not count has the score R.

        Source: Cochran, "Sampling Techniques" (1977), section 6.4.
        """
        return self.value + (self.sums - self.value * self.counts) / self.counts.mean()


@dataclass(frozen=True, eq=False)
class MeasuredRun:
    """The scores of a run on the items of a split.

    Args:
        encoding: of the run, in words.
        split: `test` or `validation`.
        scores: by metric and length; missing where the model has positions for no item.
        values: of the metrics of a corpus that are not means over its items (BLEU, macro F1, perplexity ...), by metric
            and length.
        checkpoint: SHA-256 of the checkpoint that was measured.
    """

    encoding: str
    split: str
    scores: Mapping[tuple[str, int | None], ItemScores]
    values: Mapping[tuple[str, int | None], float]
    checkpoint: str = ""

    @property
    def lengths(self) -> set[int | None]:
        """The lengths that have scores."""
        return {length for _, length in (*self.scores, *self.values)}

    def at(self, length: int | None) -> dict[str, ItemScores]:
        """Return the scores of items at a length, by metric."""
        return {metric: one for (metric, at), one in self.scores.items() if at == length}

    def joined(self, other: MeasuredRun) -> MeasuredRun:
        """Return its scores with those of another measurement of the same run, which replace equal ones."""
        return replace(self, scores={**self.scores, **other.scores}, values={**self.values, **other.values})


def shared_items(scores: Sequence[ItemScores]) -> list[ItemScores]:
    """Return the scores of several runs on the items that count in all of them.

    Raises:
        ValueError: if their items, metric or length differ.
    """
    for what in ("metric", "length", "identity"):
        if len(found := {getattr(one, what) for one in scores}) > 1:
            first, second, *_ = sorted(map(str, found))
            raise ValueError(f"scores must be of the same items to be paired, and have {what} {first} and {second}")
    shared = np.all([one.counts > 0 for one in scores], axis=0)
    return [replace(one, sums=one.sums[shared], counts=one.counts[shared]) for one in scores]
