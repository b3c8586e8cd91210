"""The figures of an extension in a table and in sentences: losses at the new length, and the price at the old one."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import t

from poslab.evaluation.benchmarks.subjects import Subject
from poslab.experiments.bench.report import Measured

TRAINED_IN_WINDOWS = "trained_in_windows"
"""Name of the model that was trained further without a setting, and reads a longer text in windows of its context."""


def summary_of(measured: Measured, to: int, context: int, written: str) -> pd.DataFrame:
    """Return a row for each model: losses and answers at the new length, and the price within the old context.

    The price is the loss that is added to the loss of the first model, with a 95% interval over texts.
    """
    first, *others = measured
    prices = ["–", *("{:.3f} ± {:.3f}".format(*_added(measured, other, first, "loss", context)) for other in others)]
    rows: list[tuple[str, ...]] = []
    for subject, price in zip(measured, prices, strict=True):

        def mean(name: str, subject: Subject = subject) -> str:
            sums, counts = _sums(measured, subject, name, to)
            return f"{sums.sum() / counts.sum():.3f}" if len(counts) else "–"

        name = f"{subject.name} (written)" if subject.name == written else subject.name
        rows.append((name, mean("key_loss"), mean("answer_loss"), mean("forced_match"), price))
    columns = ["positions", "key loss", "answer loss", "answers %", f"price at {context:,}"]
    return pd.DataFrame(rows, columns=columns)


def answer_of(measured: Measured, to: int, context: int, written: str, margin: float) -> list[str]:
    """Return sentences on whether the model that is written is better than what it must beat, and on its price.

    It must beat the untouched model in windows; if it was trained further, the same training in windows too.
    """
    by_name = {subject.name: subject for subject in measured}
    first, subject = next(iter(measured)), by_name[written]
    rivals = {first.name: "the untouched model in windows, which costs nothing"}
    if written == "trained":
        rivals[TRAINED_IN_WINDOWS] = "the same training without a setting, read in windows"
    lines = []
    for rival, meaning in rivals.items():
        words, is_better = [], False
        for name in ("key_loss", "answer_loss"):
            added, spread = _added(measured, subject, by_name[rival], name, to)
            verdict = "better" if added < -spread else "worse" if added > spread else "inconclusive"
            is_better |= verdict == "better"
            words.append(f"{name.replace('_', ' ')} {added:+.3f} ± {spread:.3f} ({verdict})")
        lines.append(f"{written} next to {rival}: {', '.join(words)}.")
        if not is_better:
            lines.append(f"Nothing shows that it is better than {meaning}.")
    price, spread = _added(measured, subject, first, "loss", context)
    within = "within" if price + spread <= margin else "above" if price - spread > margin else "not shown to be within"
    price_line = f"Price at {context:,} tokens: {price:+.3f} ± {spread:.3f} nats per token, {within} margin={margin:g}."
    return [*lines, price_line]


def _sums(measured: Measured, subject: Subject, name: str, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums and counts of a metric at a length on all items of all tasks."""
    metrics = [metric for of_task in measured[subject] for metric in of_task or ()]
    of_name = [metric for metric in metrics if (metric.name, metric.length) == (name, length)]
    return np.array([x for m in of_name for x in m.sums]), np.array([n for m in of_name for n in m.counts])


def _added(measured: Measured, subject: Subject, rival: Subject, name: str, length: int) -> tuple[float, float]:
    """Return what a model adds to a metric of another, and half of its 95% interval over paired items."""
    sums, counts = _sums(measured, subject, name, length)
    sums = sums - _sums(measured, rival, name, length)[0]
    added, items = float(sums.sum() / counts.sum()), len(counts)
    if items < 2:
        return added, np.nan
    error = np.sqrt(items / (items - 1) * ((sums - added * counts) ** 2).sum()) / counts.sum()
    return added, float(error * t.ppf(0.975, items - 1))
