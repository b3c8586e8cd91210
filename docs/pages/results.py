"""Tables and numbers of results in pages that are written by hand: `python docs/make.py results` fills them in.

A table below `<!-- table: NAME WHAT -->` is made of results/NAME. WHAT is a metric, whose table has a column for each
case; `checks`, `claims` or `published`; `speeds CASE`; or `own_window CASE BASELINE LENGTH LENGTH LENGTH`. A number
before `<!-- NAME CASE ENCODING METRIC -->` is the mean over the seeds of these runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poslab.experiments.collect import read_results
from poslab.experiments.published import published_results
from poslab.experiments.report.checks import checks
from poslab.experiments.report.papers import claims_table, values_table
from poslab.experiments.report.speeds import speed_table
from poslab.experiments.report.tables import overview
from poslab.experiments.results import Results
from poslab.experiments.statistics.difference import Difference, Scores, difference
from poslab.experiments.statistics.verdict import verdicts
from poslab.report.text import markdown

DOCS = Path(__file__).resolve().parents[1]
RESULTS = DOCS.parent / "results"
PAGES = (
    "which-encoding",
    "papers",
    "pretrained",
    "tasks",
    "axes",
    "training-methods",
    "every-encoding",
    "model-patterns",
)
TABLE = re.compile(r"<!-- table: (\S+) (\S+)(.*?) -->\n\n(?:\|.*\n)+")
NUMBER = re.compile(r"([−-]?[\d,]+(\.\d+)?)<!-- (\S+) (\S+) (\S+) (\S+) -->")
SLIDING = "sliding_bits_per_byte"
MARGIN = 0.02
"""Difference in bits per byte that matters, as in the files of the comparisons."""

results_of: Callable[[str], Results] = cache(lambda name: read_results(RESULTS / name))


def make(draws: bool) -> None:
    """Fill in the tables and numbers of all pages; nothing is drawn."""
    for name in PAGES:
        page = DOCS / f"{name}.md"
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


def filled(text: str) -> str:
    """Return a page with the tables and numbers of the results."""
    text = TABLE.sub(
        lambda match: f"{match[0].partition('|')[0]}{table(match[1], match[2], *match[3].split())}\n", text
    )
    return NUMBER.sub(_number, text)


def _number(match: re.Match[str]) -> str:
    shown, decimals, name, case, encoding, metric = match.groups()
    frame = results_of(name).frame()
    rows = frame[(frame["case"] == case) & (frame["encoding"] == encoding) & (frame["metric"] == metric)]
    if rows.empty:
        raise ValueError(f"results/{name} has no {metric} of {encoding} on {case}")
    sign = "−" if "−" in shown else "-"
    number = f"{rows['value'].mean():,.{len(decimals or '.') - 1}f}".replace("-", sign)
    return f"{number}{match[0][len(shown) :]}"


def table(name: str, what: str, *arguments: str) -> str:
    """Return a table of a page in Markdown; arguments as in the docstring of this module."""
    results = results_of(name)
    if what == "checks":
        frame = checks(results).frame.astype(str).replace({"True": "yes", "False": "no"})
    elif what in ("claims", "published"):
        published = published_results(results.comparison)
        assert published is not None
        frame = (claims_table if what == "claims" else values_table)(results, published).map(_cell)
    elif what == "speeds":
        speeds = speed_table(results, arguments[0])
        assert speeds is not None
        frame = speeds.frame.map(_cell)
    elif what == "own_window":
        case, baseline, *lengths = arguments
        frame = _own_window_table(own_window(results, case, baseline, list(map(int, lengths))), baseline)
    else:
        frame = by_case(results, what)
    return markdown(frame)


def by_case(results: Results, metric: str) -> pd.DataFrame:
    """Return a row for each encoding and a column for each case that the metric decides, with the signs of verdicts.

    Where it decides none, the columns are all cases with results, and have means over seeds; dashes are missing means.
    """
    decided, frame = overview(results).set_index("encoding"), results.frame()
    cases = list(dict.fromkeys(frame["case"]))
    columns = {metric: cases[0]} if len(cases) == 1 else {f"{case} {metric}": case for case in cases}
    if known := {column: case for column, case in columns.items() if column in decided}:
        return decided[list(known)].rename(columns=known).reset_index()
    rows = frame[frame["metric"] == metric]
    means = rows.groupby(["encoding", "case"], sort=False)["value"].mean().unstack()
    means = means.reindex(index=list(dict.fromkeys(rows["encoding"])), columns=list(dict.fromkeys(rows["case"])))
    decimals = 1 if metric.partition("@")[0].endswith(("accuracy", "ndcg")) else 3  # of shares, and of others
    shown = means.map(lambda mean: "–" if pd.isna(mean) else f"{mean:.{decimals}f}")
    return shown.rename_axis(columns=None).reset_index()


def scores_of(results: Results, case: str, encoding: str, metric: str, length: int) -> Scores | None:
    """Return the scores of an encoding's runs on test items; None where some are not known at this length."""
    runs = dict(sorted(results.runs(case, encoding).items()))
    measured = {seed: results.measured(run) for seed, run in runs.items()}
    found = {seed: run and run.scores.get((metric, length)) for seed, run in measured.items()}
    if not found or None in found.values():
        return None
    return Scores.of_items(np.stack([items.linearised for items in found.values() if items]), list(found))


def own_window(results: Results, case: str, baseline: str, lengths: list[int]) -> pd.DataFrame:
    """Return a row for each encoding in long sliding windows, next to the baseline in windows of its training length.

    Args:
        results, case: whose runs are read.
        baseline: the encoding that stays at its training length.
        lengths: the training length, the length of the verdict, and the longest one.

    Returns:
        The losses by length; the `gain` of context beyond the training length and the `difference` to the baseline,
        each a `Difference`; the `verdict` after Holm over the rows.
    """
    every = {
        name: [scores_of(results, case, name, SLIDING, length) for length in lengths]
        for name in results.encodings(case)
    }
    known = {name: [one for one in own if one is not None] for name, own in every.items() if None not in own}
    control = f"{baseline} in its own window"
    contestants = {control: known[baseline][0], **{name: own[1] for name, own in known.items()}}
    rows: dict[str, dict[Any, Any]] = {}
    for name, verdict in verdicts(contestants, control, "minimize", MARGIN).items():
        losses = dict(zip(lengths, (one.mean for one in known[name]), strict=True))
        gain = difference(known[name][0], known[name][2], "minimize")
        rows[name] = {**losses, "gain": gain, "difference": verdict.difference, "verdict": str(verdict.word)}
    return pd.DataFrame.from_dict(rows, orient="index").sort_values(lengths[1])


def _own_window_table(frame: pd.DataFrame, baseline: str) -> pd.DataFrame:
    trained, far, longest = (length for length in frame if isinstance(length, int))
    shown = frame.assign(**{str(length): frame[length].map("{:.3f}".format) for length in (trained, far, longest)})
    shown[["gain", "difference"]] = shown[["gain", "difference"]].map(_with_interval)
    columns = {
        **{str(length): f"{length:,}" for length in (trained, far, longest)},
        "gain": f"gain from {trained:,} to {longest:,}",
        "difference": f"at {far:,} minus {baseline} at {trained:,}",
        "verdict": "verdict",
    }
    return shown[list(columns)].rename(columns=columns).rename_axis("encoding").reset_index()


def _with_interval(found: Difference) -> str:
    """Return a difference in bits per byte with its 95% interval, for new seeds and new items."""
    mean, low, high = (f"{round(number, 3) + 0.0:.3f}" for number in (found.mean, *found.interval))
    return f"{mean} ({low} to {high})"


def _cell(value: object) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
