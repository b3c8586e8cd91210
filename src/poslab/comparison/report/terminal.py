"""Results of a comparison on the terminal."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype
from rich import box
from rich.console import Console
from rich.table import Table as Lines

from poslab.comparison.published import published_results
from poslab.comparison.report.papers import values_table
from poslab.comparison.report.tables import LEGEND
from poslab.comparison.results import Results
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
        lines = Lines(box=box.SIMPLE_HEAD, title=case, title_justify="left")
        lines.add_column("encoding")
        columns = [f"{prefix}{criterion.metric}" for criterion in comparison.criteria(case)]
        for column in columns:
            lines.add_column(column.removeprefix(prefix), justify="right")
        for row in table.to_dict("records"):
            if row["encoding"] in comparison.encodings_of(case):
                lines.add_row(row["encoding"], *(_aligned(row[column]) for column in columns))
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
