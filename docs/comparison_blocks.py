"""Blocks of a page that is made from the folder of a comparison: its answer, tables, pictures, checks and methods."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from poslab.report.text_tables import in_markdown, markdown


def made(folder: Path) -> dict[str, Any]:
    """Return question, answer, methods and command of a comparison."""
    content: dict[str, Any] = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    return content


def answer(folder: Path) -> str:
    """Return the answer of a comparison as a list of sentences."""
    return "\n".join(f"- {in_markdown(sentence)}" for sentence in made(folder)["answer"])


def by_case(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the mean over seeds of a metric, a row for each encoding and a column for each case; dashes for none.

    Args:
        results: results.csv of a comparison.
        metric: its tag, such as `bits_per_byte@1024`.
    """
    rows = results[results["metric"] == metric]
    means = rows.groupby(["encoding", "case"], sort=False)["value"].mean().unstack()
    means = means.reindex(index=_in_order(rows["encoding"]), columns=_in_order(rows["case"]))
    decimals = 1 if metric.partition("@")[0].endswith(("accuracy", "ndcg")) else 3  # of shares, and of others
    shown = means.map(lambda mean: "–" if pd.isna(mean) else f"{mean:.{decimals}f}")
    return shown.rename_axis(columns=None).reset_index()


def tables(results: pd.DataFrame, metrics: Sequence[str]) -> Iterator[str]:
    """Yield a heading and the table of all cases for each metric that has results."""
    for metric in metrics:
        if metric not in set(results["metric"]):
            continue
        yield f"**{metric}**"
        yield markdown(by_case(results, metric))


def pictures(folder: Path, patterns: Sequence[str], docs: Path, place: Path) -> Iterator[str]:
    """Copy the pictures of these patterns, with results.csv and differences.csv, and yield a link to each.

    Args:
        folder: of the comparison.
        patterns: of the names of pictures.
        docs: folder of the page.
        place: folder of the copies within it.
    """
    shutil.rmtree(docs / place, ignore_errors=True)
    (docs / place).mkdir(parents=True)
    for name in ("results.csv", "differences.csv"):
        shutil.copy(folder / name, docs / place / name)
    for file in (file for pattern in patterns for file in sorted((folder / "figures").glob(pattern))):
        shutil.copy(file, docs / place / file.name)
        title = file.stem.replace("_", " ")
        yield f"![{title}]({(place / file.name).as_posix()})\n\n{title.capitalize()}."


def origin(folder: Path) -> Iterator[str]:
    """Yield the checks, the methods and the command of a comparison."""
    content = made(folder)
    yield "## Checks"
    yield markdown(pd.read_csv(folder / "figures" / "checks.csv").astype(str))
    yield "## How it was made"
    yield str(content["methods"])
    yield f"```bash\n{content['command']}\n```"


def _in_order(names: pd.Series) -> list[str]:
    return list(dict.fromkeys(names))
