"""Size as an axis: the law of a loss over sizes, and the trend of a difference.

K sizes, S seeds, R resamples, C constants of a law.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from poslab.experiments.statistics.verdict import ALPHA

CONSTANTS = ("E", "A", "a", "B", "b")
RESAMPLES, RESAMPLES_OF_TREND = 1000, 8000
EXPONENTS = (0.02, 2.0)

Interval = tuple[float, float, float]
"""A value and the ends of its 95% interval, which are NaN where no size has two seeds."""


def resampled(values: Sequence[np.ndarray], count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return means (S,) -> (R, K) as other seeds may give them, and the deviation of a seed in each, (R,).

    A parametric bootstrap: sizes with few seeds use the deviation of the others, which is pooled and drawn itself,
    so that the interval of a mean is Student's. NaN if no size has two seeds.
    """
    numbers = np.array([len(of_size) for of_size in values])
    squares = sum(float(((of_size - of_size.mean()) ** 2).sum()) for of_size in values)
    df = int((numbers - 1).sum())
    deviations = np.sqrt(squares / rng.chisquare(df, count)) if df else np.full(count, np.nan)
    noise = rng.standard_normal((count, len(numbers))) / np.sqrt(numbers)
    return np.array([of_size.mean() for of_size in values]) + deviations[:, None] * noise, deviations


def interval(value: float, draws: np.ndarray, tests: int = 1) -> Interval:
    """Return a value with its percentile interval, simultaneous with the intervals of all tests (Bonferroni)."""
    low, high = np.quantile(draws, [ALPHA / 2 / tests, 1 - ALPHA / 2 / tests])
    return value, float(low), float(high)


@dataclass(frozen=True, eq=False)
class ScalingLaw:
    """L = E + A N^-a + B D^-b for N parameters and D tokens; the last term may be missing."""

    draws: np.ndarray  # (1 + R, C) constants in the order of `CONSTANTS`: of the runs, then of resampled seeds
    deviations: np.ndarray  # (R,) of a seed

    def constants(self) -> dict[str, Interval]:
        return {n: interval(float(c[0]), c[1:]) for n, c in zip(CONSTANTS, self.draws.T, strict=False)}

    def predicted(self, parameters: float, tokens: float, seeds: int) -> Interval:
        """Return the mean loss that so many seeds of a size will have."""
        noise = self.deviations * np.random.default_rng(0).standard_normal(len(self.deviations)) / math.sqrt(seeds)
        e, *rest = self.draws.T
        losses = e + sum(
            factor * count**-exponent
            for factor, exponent, count in zip(rest[::2], rest[1::2], (parameters, tokens), strict=False)
        )
        return interval(float(losses[0]), losses[1:] + noise)


def scaling_law(
    values: Sequence[np.ndarray], parameters: Sequence[float], tokens: Sequence[float] | None = None
) -> ScalingLaw:
    """Return the law of the losses of some sizes, by least squares of relative residuals (approach 3 of the source).

    E, A and B are exact for each pair of exponents of a grid, so that the fit needs no start. A few means over seeds
    need no robust loss. ValueError in one sentence, if the sizes do not determine the constants.

    Args:
        values: losses of the seeds of each size, (S,).
        parameters: of each size.
        tokens: of the training of each size; None leaves out their term.


    Source: Hoffmann et al., "Training Compute-Optimal Large Language Models" (2022), section 3.3.
    """
    if len(values) < (needed := 3 if tokens is None else 6):
        raise ValueError(f"{needed} sizes with runs are needed, got {len(values)}")
    counts = np.array([parameters] if tokens is None else [parameters, tokens], float)
    middles = np.exp(np.log(counts).mean(1))  # around which factors and exponents depend little on each other
    logs = np.log(counts / middles[:, None])
    if any(len(set(np.round(of_count, 2))) < 3 for of_count in logs):
        raise ValueError("three different sizes are needed")
    if np.linalg.matrix_rank(logs, tol=0.05) < len(logs):
        raise ValueError("all sizes have tokens in the same proportion to their parameters")
    draws, deviations = resampled(values, RESAMPLES, np.random.default_rng(0))
    means = np.array([of_size.mean() for of_size in values])
    relative = (np.vstack([means, draws]) / means).T  # (K, 1 + R)
    best, costs = np.full((1 + RESAMPLES, 1 + 2 * len(logs)), np.nan), np.full(1 + RESAMPLES, np.inf)
    for exponents in product(np.geomspace(*EXPONENTS, 300 if len(logs) == 1 else 60), repeat=len(logs)):
        terms = np.vstack([np.ones_like(means), np.exp(-np.array(exponents)[:, None] * logs)]) / means
        factors = np.maximum(np.linalg.pinv(terms.T) @ relative, 0)
        of_fit = ((relative - terms.T @ factors) ** 2).sum(0)
        better = of_fit < costs
        costs = np.where(better, of_fit, costs)
        best[better, 0], best[better, 1::2], best[better, 2::2] = factors[0, better], factors[1:, better].T, exponents
    best[:, 1::2] *= middles ** best[:, 2::2]
    return ScalingLaw(best, deviations)


@dataclass(frozen=True)
class Trend:
    """Change of a difference with size."""

    word: str  # `grows`, `shrinks`, `reverses`, `stays` (within the margin) or `inconclusive`
    slope: Interval  # of the difference for ten times the parameters
    predicted: Interval  # the difference at a further size


def trend(
    values: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
    parameters: Sequence[float],
    further: float,
    seeds: int = 1,
    margin: float = 0.0,
    tests: int = 1,
) -> Trend:
    """Return the trend of the difference between two encodings, by a line over the logarithm of the parameters.

    Args:
        values: of the seeds of each size, (S,), of the first and of the second encoding.
        parameters: of each size, at least 2 different ones.
        further: parameters of the size of `predicted`.
        seeds: of each encoding there.
        margin: a difference that changes by less from the smallest size to the largest stays; 0 is none.
        tests: number of trends that are to be simultaneous.
    """
    logs, rng = np.log10(parameters), np.random.default_rng(0)
    (first, first_deviations), (second, second_deviations) = (resampled(v, RESAMPLES_OF_TREND, rng) for v in values)
    noise = np.hypot(first_deviations, second_deviations) * rng.standard_normal(len(first)) / math.sqrt(seeds)
    differences = [a.mean() - b.mean() for a, b in zip(*values, strict=True)]
    level = np.array([1 / (1 / len(a) + 1 / len(b)) for a, b in zip(*values, strict=True)])
    level /= level.sum()
    centred = logs - level @ logs
    slope = level * centred / (level * centred**2).sum()

    def of_line(weights: np.ndarray, noise: np.ndarray | float = 0.0, tests: int = tests) -> Interval:
        return interval(float(weights @ differences), (first - second) @ weights + noise, tests)

    change, span = of_line(slope), float(np.ptp(logs))
    ends = [of_line(level + slope * end) for end in (centred.min(), centred.max())]
    if margin and span * max(map(abs, change[1:])) < margin:
        word = "stays"
    elif not (change[1] > 0 or change[2] < 0):
        word = "inconclusive"
    elif {np.sign(end[1]) for end in ends if end[1] * end[2] > 0} == {-1, 1}:
        word = "reverses"
    else:
        word = "grows" if level @ differences * change[0] > 0 else "shrinks"
    size = math.log10(further) if math.isfinite(further) else logs.max()
    return Trend(word, change, of_line(level + slope * (size - level @ logs), noise, tests=1))
