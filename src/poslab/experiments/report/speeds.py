"""Tables of speed and memory at each length of a test."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from poslab.experiments.comparison import file_name
from poslab.experiments.costs import ReadingCost
from poslab.experiments.results import Results
from poslab.report.figures import Table

MAX_LENGTHS = 5
"""Lengths that a table has columns for."""


def speeds_frame(results: Results) -> pd.DataFrame:
    """Return a row for each case, encoding and length that was timed."""
    rows = [
        {"case": case, **vars(cost), "machine": results.speeds[case].machine}
        for case in results.comparison.cases
        if case in results.speeds
        for cost in results.speeds[case].costs
    ]
    return pd.DataFrame(rows)


def speed_table(results: Results, case: str) -> Table | None:
    """Return a row for each encoding of a case: its speed at each length, then its memory; None if none was timed."""
    if (speeds := results.speeds.get(case)) is None or not speeds.costs:
        return None
    rows, every = [], results.lengths(case)
    lengths = every if len(every) <= MAX_LENGTHS else _ends(every, results.training_length(case))
    for encoding in results.encodings(case):
        costs = {length: speeds.at(encoding, length) for length in lengths}
        of_speed = {f"speed at {length:,}": _speed(cost) for length, cost in costs.items()}
        of_memory = {f"MB at {length:,}": cost and cost.memory_mb for length, cost in costs.items()}
        rows.append({"encoding": encoding, **of_speed, **of_memory})
    caption = (
        f"How many times as many tokens per second as {speeds.baseline} each encoding reads, and in brackets how many; "
        "then its memory, weights included. The first seed's model reads the longest test item of each length, without "
        f"training, all in turn on {speeds.machine}. A dash: it has no positions there."
    )
    if len(lengths) < len(every):
        caption += " speeds.csv has the other lengths."
    name = f"speeds_{file_name(case)}"
    return Table(name, "Speed and memory at each length", caption, pd.DataFrame(rows))


def _ends(lengths: Sequence[int], trained: int) -> list[int]:
    """Return the shortest of sorted lengths, the longest of those of training, and the longest."""
    within = [length for length in lengths if length <= trained]
    return sorted({lengths[0], *within[-1:], lengths[-1]})


def _speed(cost: ReadingCost | None) -> str | None:
    if cost is None:
        return None
    absolute = f"({cost.tokens_per_second:,.0f})"
    return absolute if cost.relative_speed is None else f"{cost.relative_speed:.2f} {absolute}"
