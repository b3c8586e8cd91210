"""Count the seeds that solve a case, where a mean over seeds would hide that some learn it and some do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, fisher_exact
from statsmodels.stats.proportion import confint_proportions_2indep

FAILED, SOLVED = 20.0, 80.0
"""Shares, in per cent, below which a seed has failed and above which it has solved a case."""


def seeds_split(values: np.ndarray) -> bool:
    """Return whether some seeds of a share (S,), 0 to 100, are below 20 and some above 80; diverged ones are below."""
    return bool(solved(values).any() and (~(values >= FAILED)).any())


def solved(values: np.ndarray) -> np.ndarray:
    """Return (S,) whether each seed's share is above 80; a diverged run's is not."""
    return values > SOLVED


@dataclass(frozen=True)
class RateDifference:
    """Difference of two solve rates with its 95% interval, in per cent."""

    mean: float
    low: float
    high: float


def rate_difference(values: np.ndarray, baseline: np.ndarray) -> RateDifference:
    """Return the solve rate of an encoding minus that of the baseline, with Newcombe's interval.

    The interval is that of rates whose seeds are not pairs, which is wider than pairs that agree would allow.

    Args:
        values, baseline: (S,) shares, 0 to 100.

    Source: Newcombe, "Interval estimation for the difference between independent proportions" (Statistics in Medicine
        17, 1998), method 10.
    """
    solves, baseline_solves = solved(values), solved(baseline)
    low, high = confint_proportions_2indep(
        solves.sum(), len(solves), baseline_solves.sum(), len(baseline_solves), method="newcomb"
    )
    return RateDifference(*(100 * float(share) for share in (solves.mean() - baseline_solves.mean(), low, high)))


def solve_p_value(values: np.ndarray, baseline: np.ndarray, paired: bool = True) -> float:
    """Return the p-value of "both solve the case equally often", by an exact test.

    Pairs of seeds of which one solves the case are counted: each is equally likely to be either's (McNemar's exact
    test). Seeds that are not pairs take Fisher's.

    Args:
        values, baseline: (S,) shares, 0 to 100.
        paired: whether seeds are pairs.

    Example:
        5 pairs that all go one way have p = 2 / 2^5 = .0625: at least 6 pairs are needed.
    """
    solves, baseline_solves = solved(values), solved(baseline)
    if paired:
        ahead, behind = int((solves & ~baseline_solves).sum()), int((~solves & baseline_solves).sum())
        return float(binomtest(ahead, ahead + behind).pvalue) if ahead + behind else 1.0
    return float(
        fisher_exact([[solves.sum(), (~solves).sum()], [baseline_solves.sum(), (~baseline_solves).sum()]]).pvalue
    )
