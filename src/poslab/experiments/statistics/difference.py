"""Compare two encodings on one case and metric: the difference of their means and what is known of it.

S seeds, I items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from poslab.experiments.criteria import Direction, sign
from poslab.experiments.statistics.crossed import Estimate, estimate, estimate_of_items

MIN_SEEDS = 2  # seeds of each encoding needed for an interval


@dataclass(frozen=True, eq=False)
class Scores:
    """Values of a metric for an encoding on a case, one for each seed.

    ValueError if the shapes do not fit, or the means of the items are not the values.
    """

    values: np.ndarray  # (S,) in the metric's unit; not finite where the run diverged
    # (S, I) scores of test items whose means over items are `values`; a diverged run's are not read
    items: np.ndarray | None = None
    # (S,) of the runs; None where the seeds of the other encodings are the same in the same order
    seeds: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 1:
            raise ValueError(f"values must have the shape (seeds,), got {self.values.shape}")
        if self.items is None:
            return
        if self.items.ndim != 2 or len(self.items) != len(self.values) or not self.items.shape[1]:
            raise ValueError(f"items must have the shape ({len(self.values)}, items), got {self.items.shape}")
        if not np.allclose(self.items[self.finished].mean(1), self.values[self.finished], rtol=1e-4, atol=1e-6):
            raise ValueError(
                f"the means of items must be the values {self.values[self.finished]}, "
                f"got {self.items[self.finished].mean(1)}"
            )

    @classmethod
    def of_items(cls, items: np.ndarray, seeds: Sequence[int] | None = None) -> Scores:
        """Return the scores whose values are the means of their items (S, I)."""
        return cls(items.mean(1), items, seeds)

    @property
    def finished(self) -> np.ndarray:
        """Return (S,) whether the run of each seed did not diverge."""
        return np.isfinite(self.values)

    @property
    def diverged(self) -> int:
        """Return the number of runs that diverged."""
        return int((~self.finished).sum())

    @property
    def mean(self) -> float:
        """Return the mean over the runs that finished, NaN if none did."""
        return float(self.values[self.finished].mean()) if self.finished.any() else math.nan

    def of_seeds(self, seeds: np.ndarray) -> Scores:
        """Return the scores of some seeds, which are booleans (S,) or their indices."""
        return Scores(self.values[seeds], None if self.items is None else self.items[seeds])


@dataclass(frozen=True, eq=False)
class Difference:
    """Difference of an encoding to another: its mean minus the other's, in the metric's unit."""

    mean: float  # over the pairs of seeds that finished, NaN if there are none
    direction: Direction
    pairs: int  # number of pairs of seeds; if seeds are not pairs, the smaller number of seeds
    paired: bool
    # share of pairs in which the encoding is better; if seeds are not pairs, of all combinations
    share_better: float
    paired_spread: float  # standard deviation of the differences of pairs, NaN if seeds are not pairs
    unpaired_spread: float  # standard deviation that the difference of two seeds drawn apart has
    estimate: Estimate | None  # interval and p-values; None with fewer than 2 seeds, unless models are given
    # largest absolute difference that the metric can have, which bounds the interval: 100 of shares
    limit: float = math.inf

    @property
    def gain(self) -> float:
        """Return the difference with the sign of the direction: above 0 is better."""
        return sign(self.direction) * self.mean

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95% interval, NaN with fewer than 2 seeds."""
        if self.estimate is None:
            return math.nan, math.nan
        low, high = np.clip(self.estimate.interval(), -self.limit, self.limit)
        return float(low), float(high)

    @property
    def df(self) -> float:
        """Return the degrees of freedom, NaN with fewer than 2 seeds."""
        return math.nan if self.estimate is None else float(self.estimate.df)

    @property
    def p_value(self) -> float:
        """Return the p-value of "there is no difference", 1 with fewer than 2 seeds."""
        return 1.0 if self.estimate is None else self.estimate.p_value()

    def beyond_p_value(self, margin: float) -> float:
        """Return the p-value of "the difference is not beyond the margin in its direction"."""
        if self.estimate is None or abs(self.mean) <= margin:
            return 1.0
        return self.estimate.p_value(math.copysign(margin, self.mean))

    def equivalence_p_value(self, margin: float) -> float:
        """Return the p-value of "the difference is not within the margin"; 1 without a margin or an interval."""
        return 1.0 if self.estimate is None or margin <= 0 else self.estimate.equivalence_p_value(margin)

    def not_worse_p_value(self, margin: float) -> float:
        """Return the one-sided p-value of "it is worse by more than the margin"; 1 without a margin or an interval."""
        if self.estimate is None or margin <= 0:
            return 1.0
        bound = -sign(self.direction) * margin
        p_value = self.estimate.p_value(bound) / 2
        return p_value if sign(self.direction) * (float(self.estimate.mean) - bound) > 0 else 1 - p_value


def in_pairs(scores: Scores, baseline: Scores) -> tuple[Scores, Scores, bool]:
    """Return both for the seeds that they share, and True; as they are, and False, if they share fewer than 2."""
    if scores.seeds is None or baseline.seeds is None:
        return scores, baseline, True
    shared, rows, baseline_rows = np.intersect1d(scores.seeds, baseline.seeds, return_indices=True)
    if len(shared) < MIN_SEEDS:
        return scores, baseline, False
    return scores.of_seeds(rows), baseline.of_seeds(baseline_rows), True


def difference(
    scores: Scores,
    baseline: Scores,
    direction: Direction,
    paired: bool = True,
    limit: float = math.inf,
    given: bool = False,
) -> Difference:
    """Return the difference of an encoding to a baseline; ValueError if paired seeds or the items are not equally many.

    Pairs of which a run diverged are left out. Where both have scores of items, the interval is for new seeds and new
    items, else for new seeds.

    Args:
        scores, baseline: of the same items; of the same seeds in the same order if paired.
        direction: whether small or large values of the metric are good.
        paired: whether runs of the same seed are pairs: same data in the same order, same first weights where they are
            shared. Otherwise Welch's interval is taken.
        limit: as of `Difference`.
        given: whether the models are no sample: with one seed, the interval is for new items.

    Returns:
        Numbers in the metric's unit.


    Example:
        difference(Scores(np.array([3., 5., 4.])), Scores(np.array([1., 2., 3.])), "maximize") has the mean 2, the share
        better 1 and the interval 2 -+ 4.30 * 1 / sqrt(3).
    """
    if paired and len(scores.values) != len(baseline.values):
        raise ValueError(f"paired seeds must be equally many, got {len(scores.values)} and {len(baseline.values)}")
    both = scores.finished & baseline.finished if paired else None
    scores, baseline = (group.of_seeds(group.finished if both is None else both) for group in (scores, baseline))
    values, baseline_values = scores.values, baseline.values
    pairs = min(len(values), len(baseline_values))
    better = (
        (values[:, None] > baseline_values) if direction == "maximize" else (values[:, None] < baseline_values)
    )  # (S, S)
    enough = pairs >= MIN_SEEDS
    estimated = _estimate(scores, baseline, paired) if enough else None
    if given and len(values) == len(baseline_values) == 1 and scores.items is not None and baseline.items is not None:
        (items,), (baseline_items,) = scores.items.astype(np.float64), baseline.items.astype(np.float64)
        estimated = estimate_of_items(items - baseline_items, limit) if len(items) > 1 else None
    return Difference(
        mean=float(values.mean() - baseline_values.mean()) if pairs else math.nan,
        direction=direction,
        pairs=pairs,
        paired=paired,
        share_better=float((better.diagonal() if paired else better).mean()) if pairs else math.nan,
        paired_spread=float((values - baseline_values).std(ddof=1)) if paired and enough else math.nan,
        unpaired_spread=math.sqrt(values.var(ddof=1) + baseline_values.var(ddof=1)) if enough else math.nan,
        estimate=estimated,
        limit=limit,
    )


def _estimate(scores: Scores, baseline: Scores, paired: bool) -> Estimate:
    if scores.items is None or baseline.items is None:
        values, baseline_values, step = scores.values[:, None], baseline.values[:, None], None
    else:
        if scores.items.shape[1] != baseline.items.shape[1]:
            raise ValueError(f"items must be equally many, got {scores.items.shape[1]} and {baseline.items.shape[1]}")
        values, baseline_values = scores.items.astype(np.float64), baseline.items.astype(np.float64)
        levels = np.unique(np.concatenate([values.ravel(), baseline_values.ravel()]))
        # the smallest step of a mean over items: an item's step, divided by the number of items
        step = float(np.diff(levels).min()) / values.shape[-1] if len(levels) > 1 else 0.0
    return estimate([values - baseline_values] if paired else [values, -baseline_values], step)
