"""Tables of speed and memory at each length of a test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from poslab.experiments.comparison import file_name
from poslab.experiments.results import Results
from poslab.report.figures import Table

MAX_LENGTHS = 5
"""Lengths that a table has columns for."""


def speeds_frame(results: Results) -> pd.DataFrame:
    """Return a row for each case, encoding and length that was timed."""
    rows = [
        {"case": case, "encoding": name, "length": length, **reading, "machine": run.reading_machine}
        for case in results.comparison.cases
        for length in results.lengths(case)
        for name, run in results.timed(case).items()
        if (reading := _at(run.reading, length))
    ]
    return pd.DataFrame(rows)


def speed_table(results: Results, case: str) -> Table | None:
    """Return a row for each encoding of a case: its speed at each length, then its memory; None if none was timed."""
    if not (timed := results.timed(case)):
        return None
    rows, every, baseline = [], results.lengths(case), results.comparison.baseline
    lengths = every if len(every) <= MAX_LENGTHS else _ends(every, results.training_length(case))
    reference = timed[baseline].reading if baseline in timed else {}
    for encoding in results.encodings(case):
        reading = timed[encoding].reading if encoding in timed else {}
        row: dict[str, object] = {"encoding": encoding}
        for length in lengths:
            speed, of_baseline = (values.get(f"tokens_per_second@{length}") for values in (reading, reference))
            times = "" if speed is None or of_baseline is None else f"{speed / of_baseline:.2f} "
            row[f"speed at {length:,}"] = None if speed is None else f"{times}({speed:,.0f})"
        memory = {f"MB at {length:,}": reading.get(f"memory_mb@{length}", math.nan) for length in lengths}
        rows.append({**row, **memory})
    machines = ", ".join(sorted({run.reading_machine for run in timed.values()}))
    caption = (
        f"How many times as many tokens per second as {baseline} each encoding reads, and in brackets how many; then "
        "its memory, weights included. The first seed's model reads the longest test item of each length, without "
        f"training, in turns on {machines}. A dash: it has no positions there."
    )
    if len(lengths) < len(every):
        caption += " speeds.csv has the other lengths."
    name = f"speeds_{file_name(case)}"
    return Table(name, "Speed and memory at each length", caption, pd.DataFrame(rows))


def _at(reading: Mapping[str, float], length: int) -> dict[str, float]:
    """Return the measurements at a length by their names."""
    names = ("tokens", "tokens_per_second", "memory_mb")
    return {name: reading[f"{name}@{length}"] for name in names if f"{name}@{length}" in reading}


def _ends(lengths: Sequence[int], trained: int) -> list[int]:
    """Return the shortest of sorted lengths, the longest of those of training, and the longest."""
    within = [length for length in lengths if length <= trained]
    return sorted({lengths[0], *within[-1:], lengths[-1]})
