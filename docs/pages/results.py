"""Tables and numbers of results in pages that are written by hand: `python docs/make.py results` fills them in.

A table below `<!-- table: NAME WHAT -->` is made of results/NAME. WHAT is a metric, whose table has a column for each
case; `checks`, `claims`, `predictions` or `published`; `speeds CASE`; `longer_context CASE`; or `differences CASE
METRIC`. A number before `<!-- NAME CASE ENCODING METRIC -->` is the mean over the seeds of these runs. A line
`- CASE: ... <!-- answer: NAME -->` has the encodings with each verdict next to the best one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd

from poslab.experiments.collect import read_results
from poslab.experiments.metrics import in_words
from poslab.experiments.published import published_results
from poslab.experiments.report.by_length import longer_context, speed_table
from poslab.experiments.report.checks import checks
from poslab.experiments.report.papers import claims_table, predictions_table, values_table
from poslab.experiments.report.tables import BEST, differences, overview, ranking, unequal_tuning
from poslab.experiments.results import Results
from poslab.experiments.statistics.verdict import Word
from poslab.report.text import amount, listed, markdown

DOCS = Path(__file__).resolve().parents[1]
RESULTS = DOCS.parent / "results"
PAGES = (
    "which-encoding",
    "extrapolation",
    "long-context",
    "papers",
    "pretrained",
    "tasks",
    "axes",
    "training-methods",
    "every-encoding",
    "model-patterns",
    "sweeps",
)
TABLE = re.compile(r"<!-- table: (\S+) (\S+)(.*?) -->\n\n(?:\|.*\n)+")
NUMBER = re.compile(r"([−-]?[\d,]+(\.\d+)?)<!-- (\S+) (\S+) (\S+) (\S+) -->")
ANSWER = re.compile(r"^- (\S+): .* <!-- answer: (\S+) -->$", re.MULTILINE)

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
    text = ANSWER.sub(lambda match: f"- {match[1]}: {answer(match[2], match[1])} <!-- answer: {match[2]} -->", text)
    return NUMBER.sub(_number, text)


def answer(name: str, case: str) -> str:
    """Return the best encoding of a case by its first metric, and those with each verdict next to it, in sentences.

    The interval is for all pairs of encodings together, since the best one is chosen by its scores.
    """
    results = results_of(name)
    comparison, criterion = results.comparison, results.comparison.criteria(case)[0]
    frame = ranking(results, case, criterion)
    best, mean, reason = frame.loc[0, ["encoding", "mean", "verdict"]]
    if reason != BEST:
        return f"{reason}."
    superlative = "lowest" if criterion.direction == "minimize" else "highest"
    seeds = amount(len(results.runs(case, best)), "seed")
    sentences = [f"{best} has the {superlative} {in_words(criterion)} ({mean:.4g}, mean of {seeds})."]
    ends = {
        str(Word.EQUIVALENT): lambda rows: f" within the margin of {criterion.margin:g}",
        str(Word.INCONCLUSIVE): lambda rows: f" (smallest detectable {rows['smallest_detectable'].max():.3g})",
    }
    for word, rows in frame[1:].groupby("verdict", sort=False):
        end = ends.get(str(word), lambda rows: "")(rows)
        sentences.append(f"{str(word).capitalize()}{end}: {listed(list(rows['encoding']))}.")
    rows = frame[(frame["encoding"] == comparison.baseline) & (frame["verdict"] == Word.WORSE)]
    for ends in rows[["low", "difference", "high"]].abs().to_numpy():
        low, mean, high = sorted(ends)
        ahead = f"{mean:.3g} ({low:.3g} to {high:.3g}, an interval for all pairs together)"
        sentences.append(f"It is ahead of {comparison.baseline}, the baseline, by {ahead}.")
    if unequal := unequal_tuning(results, case):
        sentences.append(f"Tuning was {unequal}.")
    return " ".join(sentences)


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
        is_claims = what == "claims"
        frame = claims_table(results, published.claims) if is_claims else values_table(results, published.values)
        frame = frame.map(_cell)
    elif what == "predictions":
        frame = predictions_table(results)
    elif what == "speeds":
        speeds = speed_table(results, arguments[0])
        assert speeds is not None
        frame = speeds.frame.map(_cell)
    elif what == "longer_context":
        context = longer_context(results, arguments[0])
        assert context is not None
        frame = context.frame
    elif what == "differences":
        compared = differences(results, arguments[0]).sort_values("difference")
        compared = compared[compared["metric"] == arguments[1]]
        numbers = compared[["difference", "low", "high"]].to_numpy()
        shown = [f"{mean:.3g} ({low:.3g} to {high:.3g})" for mean, low, high in numbers]
        frame = compared[["encoding", "verdict"]].assign(difference=shown)[["encoding", "difference", "verdict"]]
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


def _cell(value: object) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
