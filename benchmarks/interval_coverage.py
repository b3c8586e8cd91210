"""Coverage of 95 % intervals over few documents, for four ways to make them.

    python benchmarks/interval_coverage.py        # about ten minutes on one core

Documents are drawn whose losses per token are skewed (a gamma distribution of shape 1.5 on top of a constant), once
pieces of 1,024 tokens, of which the last is shorter, and once documents of unequal lengths (log-normal, 500 tokens with
a deviation of 0.6 in the logarithm). What is estimated is the loss of all tokens together, a ratio of two sums.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import stats

from poslab.evaluation.scores.intervals import LEVEL, ratio_interval

FLOOR, SPREAD, SHAPE = 1.3, 0.25, 1.5
RESAMPLES = 2000
TRUTH = FLOOR + SPREAD * SHAPE**0.5  # loss and length of a document are independent


def drawn(generator: np.random.Generator, count: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the losses and the tokens of documents."""
    if kind == "pieces":
        tokens = np.full(count, 1024)
        tokens[-1] = generator.integers(1, 1025)
    else:
        tokens = np.ceil(500 * generator.lognormal(0, 0.6, count)).astype(int)
    return tokens * (FLOOR + SPREAD * generator.standard_gamma(SHAPE, count) / SHAPE**0.5), tokens


def resampled(sums: np.ndarray, counts: np.ndarray, seed: int, method: str) -> tuple[float, float]:
    """Return scipy's bootstrap interval of the ratio."""
    found = stats.bootstrap(
        (sums, counts),
        lambda s, c, axis: s.sum(axis) / c.sum(axis),
        n_resamples=RESAMPLES,
        paired=True,
        vectorized=True,
        method=method,
        rng=seed,
    ).confidence_interval
    return float(found.low), float(found.high)


def student(sums: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Return Student's interval, with the error of a ratio to first order."""
    ratio = sums.sum() / counts.sum()
    error = np.sqrt(len(sums) * np.var(sums - ratio * counts, ddof=1)) / counts.sum()
    half = stats.t.ppf((1 + LEVEL) / 2, len(sums) - 1) * error
    return ratio - half, ratio + half


def main() -> None:
    """Print the coverage and the mean width of each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=2000)
    repetitions = parser.parse_args().repetitions
    print("| documents | percentile | BCa | Student's t | studentised bootstrap (Poslab) |\n" + "| --- " * 5 + "|")
    for kind in ("pieces", "documents"):
        for count in (10, 19):
            generator = np.random.default_rng(0)
            held, width = np.zeros(4), np.zeros(4)
            for seed in range(repetitions):
                data = drawn(generator, count, kind)
                percentile, bca = (resampled(*data, seed, method) for method in ("percentile", "BCa"))
                ends = np.array([percentile, bca, student(*data), ratio_interval(*data, RESAMPLES, seed=seed)])
                held += (ends[:, 0] <= TRUTH) & (ends[:, 1] >= TRUTH)
                width += ends[:, 1] - ends[:, 0]
            cells = [f"{100 * h / repetitions:.1f} % ({w / repetitions:.3f})" for h, w in zip(held, width, strict=True)]
            print(f"| {count} {kind} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
