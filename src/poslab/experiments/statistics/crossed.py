"""Estimate a mean over seeds and test items: its interval and p-values for both new, and what more seeds would find.

S seeds, I items, ... any leading dimensions, such as repetitions of a simulation.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import nctdtrinc, ndtr, stdtr, stdtrit
from scipy.stats import norm

ROUNDING = 1e-9  # seeds that differ by less than this part of their size are equal
MIN_P = 1e-9  # p-values of the studentized range below this are cut off

POWER = 0.8

MAX_SEEDS = 10**6  # seeds above which no difference is looked for
MANY_ITEMS = 100.0  # degrees of freedom of items in a comparison that is not yet run


@dataclass(frozen=True, eq=False)
class Estimate:
    """A mean with the variance that seeds give it and the variance that items give it.

    The interval adds the squared half-widths of both sources,

        h^2 = t(seed_df)^2 seed_variance + t(item_df)^2 item_variance,

    with t the quantiles of Student's distribution. With one source it is Student's interval. With two its coverage is
    at least its level, whatever the ratio of both. With Satterthwaite's degrees of freedom it is not: with 3 seeds up
    to 8% of their 95% intervals miss the mean.

    Source: Banerjee, "Approximate confidence interval for linear functions of means of k populations when the
        population variances are not equal" (Sankhya 22, 1960).
    """

    mean: np.ndarray  # the estimate
    seed_variance: np.ndarray  # squared standard error from seeds
    seed_df: np.ndarray  # its degrees of freedom
    item_variance: np.ndarray  # squared standard error from items; 0 where items are unknown
    item_df: float = math.inf  # its degrees of freedom; infinity where items are unknown
    tests: int = 1  # number of such estimates whose intervals are to be simultaneous, by Bonferroni
    # number of means of equal variance, all of whose differences are to have simultaneous intervals, by Tukey; 0 are no
    # others
    means: int = 0

    @property
    def error(self) -> np.ndarray:
        """Return the standard error of the mean."""
        return np.sqrt(self.seed_variance + self.item_variance)

    @property
    def df(self) -> np.ndarray:
        """Return the degrees of freedom of the whole variance by Satterthwaite, which describe but decide nothing."""
        parts = self.seed_variance**2 / self.seed_df + self.item_variance**2 / self.item_df
        return np.where(parts > 0, self.error**4 / np.where(parts > 0, parts, 1), self.seed_df)

    def half_width(self, level: float = 0.95) -> np.ndarray:
        """Return half the width of the two-sided interval of this level, in (0, 1)."""
        return self._half_width((1 - level) / 2)

    def _half_width(self, tail: float) -> np.ndarray:
        seeds = self._quantile(self.seed_df, tail) ** 2 * self.seed_variance
        return np.sqrt(seeds + self._quantile(self.item_df, tail) ** 2 * self.item_variance)

    def _quantile(self, df: np.ndarray | float, tail: float) -> np.ndarray:
        """Return the quantile of a tail, one-sided, for all intervals that are to be simultaneous."""
        if self.means > 2:
            points, log_tails = _range_tails(self.means, round(float(df), 1))
            return np.exp(np.interp(-math.log(tail), -log_tails, points))
        return stdtrit(df, tail / self.tests)

    def _tail(self, df: np.ndarray | float, t: float) -> float:
        """Return the tail beyond a quantile t > 0, one-sided."""
        if self.means > 2:
            points, log_tails = _range_tails(self.means, round(float(df), 1))
            return math.exp(np.interp(math.log(t), points, log_tails))
        return min(self.tests * float(stdtr(df, -t)), 0.5)

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and upper end of the two-sided interval of this level, in (0, 1)."""
        half = self.half_width(level)
        return self.mean - half, self.mean + half

    def p_value(self, mean: float = 0.0) -> float:
        """Return the two-sided p-value of a true mean: 1 - the level of the interval that ends there.

        It is for a single estimate, without leading dimensions.
        """
        distance, error = abs(float(self.mean) - mean), float(self.error)
        if math.isnan(error):
            return math.nan
        if not error or not distance:
            return float(not distance)
        # the p-values under the degrees of freedom of only one source enclose the p-value of both
        by_seeds, by_items = (max(2 * self._tail(df, distance / error), 1e-290) for df in (self.seed_df, self.item_df))
        if not self.item_variance or by_seeds == by_items:
            return by_seeds
        if not self.seed_variance:
            return by_items
        low, high = math.log(min(by_seeds, by_items)) - 1e-6, min(math.log(max(by_seeds, by_items)) + 1e-6, 0.0)
        if self._half_width(math.exp(low) / 2) < distance:
            return math.exp(low)  # p-values this small are cut off
        if self._half_width(math.exp(high) / 2) > distance:
            return math.exp(high)  # as are quantiles this small
        return math.exp(brentq(lambda log_p: float(self._half_width(math.exp(log_p) / 2)) - distance, low, high))

    def equivalence_p_value(self, margin: float) -> float:
        """Return the p-value of "the true mean is not within the margin", from two one-sided tests.

        It is below 5% where the 90% interval lies within -margin to +margin; among the differences of many means,
        which have either sign, where the 95% interval does.
        """
        below, above = self.p_value(-margin) / 2, self.p_value(margin) / 2
        outside = max(below if self.mean > -margin else 1 - below, above if self.mean < margin else 1 - above)
        return min(2 * outside, 1.0) if self.means or self.tests > 1 else outside


@cache
def _range_tails(means: int, df: float) -> tuple[np.ndarray, np.ndarray]:
    """Return logarithms of quantiles t, and of half the probability that any difference of means is beyond them.

    With the density f of a standard deviation u over its true value, and q = t sqrt(2), the studentized range:

        P(range > q) = 1 - integral of f(u) means integral of phi(z) (Phi(z) - Phi(z - q u))^(means - 1) dz du

    It is on a grid, for scipy's `studentized_range` takes ten milliseconds for a value.
    """
    log_w, z = np.linspace(-6, 4, 500), np.linspace(-8, 8, 161)
    inside = ndtr(z) - ndtr(z - np.exp(log_w)[:, None])
    beyond = 1 - means * (np.exp(-(z**2) / 2) * inside ** (means - 1)).sum(1) * (z[1] - z[0]) / math.sqrt(2 * math.pi)
    df = min(df, 1e5)
    log_u = np.linspace(-23 / df - 8 / math.sqrt(2 * df), 6 / math.sqrt(2 * df), 300)
    density = np.exp(df * (log_u - np.expm1(2 * log_u) / 2))
    points = np.linspace(-3, 4, 200)
    at_points = np.interp(points[:, None] + math.log(2) / 2 + log_u, log_w, beyond, 1, 0)
    tails = np.clip(at_points @ density / density.sum() / 2, MIN_P / 2, 0.5)
    return points, np.log(tails)


def estimate(groups: Sequence[np.ndarray], step: float | np.ndarray | None = None) -> Estimate:
    """Return the sum of the groups' means, for new seeds and new items.

    A group has the scores of one encoding, or the differences of two whose seeds are pairs; a minus sign makes the
    sum a difference. Seeds of two groups are independent, items are the same. Each group follows

        x_si = mean + seed_s + item_i + residual_si,

    whose residual is within the variance of the seeds' means: mean square of seeds / (S I). The items add what their
    means vary beyond the residual: variance over i of (sum over groups of their means over s) / I minus
    mean square of the residual / (S I) of each group, but at least 0.

    Seeds that are all equal reveal no spread, and a metric that counts has steps: a variance of step^2 / 12 for each
    score, the variance of rounding, is taken instead.

    Args:
        groups: each (..., S, I) with at least 2 seeds, or (..., S, 1) where items are unknown.
        step: distance between two neighbouring values of the metric; None takes the difference itself, since seeds
            that differ by the same amount may well be one step apart.

    Returns:
        An estimate whose degrees of freedom are from Student's test for one group, from Welch's for two. Welch's
        misses the mean too often if one group has 2 or 3 seeds and the other has many.
    """
    means = [group.mean(-1) for group in groups]  # (..., S)
    mean = sum(seeds.mean(-1) for seeds in means)
    variances = [seeds.var(-1, ddof=1) / seeds.shape[-1] for seeds in means]
    seed_variance = sum(variances)
    least = 2 / len(groups) * sum(1 / seeds.shape[-1] for seeds in means) / 12
    pooled_df = sum(seeds.shape[-1] - 1 for seeds in means)
    size = np.maximum.reduce([np.abs(seeds).max(-1) for seeds in means])
    equal = np.logical_and.reduce([np.ptp(seeds, axis=-1) <= ROUNDING * size for seeds in means])
    parts = sum(variance**2 / (seeds.shape[-1] - 1) for variance, seeds in zip(variances, means, strict=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        seed_df = np.where(equal, pooled_df, np.divide(seed_variance**2, parts))
    step = np.where(np.abs(mean) <= ROUNDING * size, 0.0, np.abs(mean)) if step is None else step
    seed_variance = np.where(equal, least * np.square(step), seed_variance)

    items = groups[0].shape[-1]
    if items == 1:
        return Estimate(np.asarray(mean), seed_variance, seed_df, np.zeros_like(seed_variance))
    item_variance = sum(group.mean(-2) for group in groups).var(-1, ddof=1) / items
    for group, seeds in zip(groups, means, strict=True):
        count = group.shape[-2]
        residual = group - seeds[..., None] - group.mean(-2, keepdims=True) + seeds.mean(-1)[..., None, None]
        square = (residual**2).sum((-2, -1)) / ((count - 1) * (items - 1))
        item_variance = item_variance - square / (count * items)
    return Estimate(np.asarray(mean), seed_variance, seed_df, np.maximum(item_variance, 0.0), items - 1)


def estimate_of_items(differences: np.ndarray, span: float) -> Estimate:
    """Return the mean difference of two models that are given, for new items only.

    With a finite span, half an item at each end of it and one at 0 are added. A few items whose answers are all equal
    would otherwise have no variance.

    Args:
        differences: (I,) of each item, at least 2.
        span: largest absolute difference of an item, 100 of shares; infinity where there is none.

    Source: Agresti and Min, Simple improved confidence intervals for comparing matched proportions (2005), whose
        method this is for shares of items that are right or wrong.
    """
    added, ends = (2, span**2) if math.isfinite(span) else (0, 0.0)
    count = len(differences) + added
    mean = differences.sum() / count
    variance = max((np.square(differences).sum() + ends) / count - mean**2, 0.0) / (count - (not added))
    df = float(count - 1)
    return Estimate(np.asarray(mean), np.zeros(()), np.asarray(df), np.asarray(variance), df)


def smallest_detectable(estimate: Estimate, alpha: float = 0.05) -> float:
    """Return the smallest true difference that such a comparison finds with a power of 80%, in the metric's unit.

    It is the noncentrality at which Student's t exceeds its critical value with that probability, times the standard
    error; 0 without an error. For a metric that is far from normal it is an approximation. `alpha` is the level of the
    two-sided test, in (0, 1).
    """
    error = float(estimate.error)
    if not error:
        return 0.0
    critical = float(estimate.half_width(1 - alpha)) / error
    return float(nctdtrinc(np.minimum(estimate.df, 1e6), 1 - POWER, critical)) * error


def detectable_in_advance(variance: float, item_variance: float, seeds: int, contestants: int, paired: bool) -> float:
    """Return the smallest difference to the baseline that a comparison is to find with a power of at least 80%.

    Each pair has its own variance here, since only the runs can show that the variances may be pooled.

    Args:
        variance: of a run, from seeds.
        item_variance: squared standard error of a difference, from items.
        seeds: their number, at least 2; `paired` if they are blocks.
        contestants: the encodings, the baseline among them, over which Holm's first step divides the level.
    """
    df = np.asarray((2 - paired) * (seeds - 1))
    expected = Estimate(np.zeros(()), np.asarray(2 * variance / seeds), df, np.asarray(item_variance), MANY_ITEMS)
    return smallest_detectable(expected, 0.05 / (contestants - 1))


def further_seeds(estimate: Estimate, seeds: int, margin: float, alpha: float = 0.05) -> int | None:
    """Return how many more seeds find a difference of the margin, in the metric's unit, with a power of 80%.

    The estimate is from `seeds` seeds of each encoding, at least 2, and `alpha` as of `smallest_detectable`.

    Returns:
        0 if the present seeds do; None if no number of seeds does, because the items are too few.
    """
    unlimited = (norm.isf(alpha / 2) + norm.ppf(POWER)) * float(np.sqrt(estimate.item_variance))
    if unlimited >= margin:
        return None
    counts = range(seeds, MAX_SEEDS)

    def finds(count: int) -> bool:
        factor = count / seeds
        variance, df = estimate.seed_variance / factor, estimate.seed_df + (factor - 1) * seeds
        return smallest_detectable(replace(estimate, seed_variance=variance, seed_df=df), alpha) <= margin

    enough = bisect_left(counts, True, key=finds)
    return enough if enough < len(counts) else None
