"""Results of a comparison on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype
from rich import box
from rich.console import Console
from rich.table import Table as Lines

from poslab.experiments.published import published_results
from poslab.experiments.report.papers import values_table
from poslab.experiments.report.tables import LEGEND
from poslab.experiments.results import Results
from poslab.report.sentences import amount


def print_results(results: Results, console: Console, table: pd.DataFrame, legend: str, sentences: list[str]) -> None:
    """Print the answers, the table of each case, published values that are computed here, and where the report is.

    Args:
        results: of the comparison.
        console: where they are printed.
        table: as of `overview`.
        legend: of its signs.
        sentences: the answers.
    """
    for sentence in sentences:
        console.print(f"{sentence}\n")
    comparison = results.comparison
    for case in comparison.cases if results.cells else ():
        prefix = "" if len(comparison.cases) == 1 else f"{case} "
        own = table[table["encoding"].isin(comparison.encodings_of(case))]
        columns = {f"{prefix}{criterion.metric}": criterion.metric for criterion in comparison.criteria(case)}
        for lines in _that_fit(console, case, own[["encoding", *columns]].rename(columns=columns)):
            console.print(lines)
    if results.cells and legend:
        console.print(legend)
    if (published := published_results(comparison)) is not None and any(value.head_dim for value in published.values):
        console.print(_published(values_table(results, published)))
    console.print(f"written: {Path(comparison.output) / 'report.html'}", soft_wrap=True)
    if results.failed:
        cell = results.failed[0]
        count = amount(len(results.failed), "run")
        console.print(
            f"{count} failed, such as {cell.label}: see {results.place(cell) / 'train.log'}",
            soft_wrap=True,
        )
    if results.blocked:
        count = amount(len(results.blocked), "run")
        console.print(
            f"{count} cannot begin, such as {results.blocked[0].label}: what they begin with diverged or failed",
            soft_wrap=True,
        )


def _that_fit(console: Console, title: str, table: pd.DataFrame) -> Iterator[Lines]:
    """Yield a table of encodings by metrics, as several with fewer metrics each if the terminal is too narrow."""
    first, *columns = table.columns
    unbounded = console.options.update(max_width=10_000)
    while columns:
        for count in range(len(columns), 0, -1):
            lines = _lines(title, table[[first, *columns[:count]]])
            if console.measure(lines, options=unbounded).maximum <= console.width:
                break
        yield lines
        columns = columns[count:]


def _lines(title: str, table: pd.DataFrame) -> Lines:
    """Return a table of encodings by metrics for the terminal."""
    lines = Lines(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    first, *columns = table.columns
    lines.add_column(first)
    for column in columns:
        lines.add_column(column, justify="right")
    for encoding, *cells in table.itertuples(index=False):
        lines.add_row(encoding, *map(_aligned, cells))
    return lines


def _published(values: pd.DataFrame) -> Lines:
    """Return published values, of which some are computed here too, for the terminal."""
    lines = Lines(box=box.SIMPLE_HEAD, title="published values", title_justify="left")
    for column in values.columns:
        lines.add_column(column, justify="right" if is_numeric_dtype(values[column]) else "left")
    for row in values.itertuples(index=False):
        lines.add_row(*(str(cell) if isinstance(cell, str) else f"{cell:,.6g}" for cell in row))
    return lines


def _aligned(cell: str) -> str:
    """Return a number with room for a sign, which others in its column may have."""
    return cell if cell[-1] in LEGEND else f"{cell}\N{NO-BREAK SPACE}\N{NO-BREAK SPACE}"
