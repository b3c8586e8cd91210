"""The report of a comparison: the answer first, then its evidence, the checks, and how it was made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as Lines

from poslab.comparison import figures
from poslab.comparison.answers import MORE_IS_BETTER, answers, cost, listed
from poslab.comparison.checks import checks
from poslab.comparison.comparison import Criterion
from poslab.comparison.methods import methods
from poslab.comparison.over_cases import caution
from poslab.comparison.papers import claims_table, published_results, values_table
from poslab.comparison.results import Results
from poslab.comparison.tables import case_table, differences, overview
from poslab.io.writing import write_atomically
from poslab.report.figures import ReportFigure, Table
from poslab.report.page import Section, write_figures, write_report
from poslab.report.text_tables import latex, markdown

LEGEND = (
    "The sign says how the encoding compares with {baseline}: ▲ better, ▼ worse, = equal within the margin, ? not told "
    "apart, ✗ not learned, ∞ diverged. No sign: the baseline, or too few seeds for a word."
)


def write(results: Results, console: Console, typed: str) -> None:
    """Write results.csv, differences.csv, the tables, the figures and report.html, and print the answer.

    The command is shown as the way to make the report again.
    """
    comparison, output = results.comparison, Path(results.comparison.output)
    write_atomically(output / "results.csv", results.frame().to_csv(index=False))
    compared = [differences(results, case) for case in comparison.cases]
    write_atomically(output / "differences.csv", pd.concat(compared).to_csv(index=False))
    table = overview(results)
    caption = f"{comparison.question} {_counted(results)} {LEGEND.format(baseline=comparison.baseline)}"
    write_atomically(output / "table.csv", table.to_csv(index=False))
    write_atomically(output / "table.md", f"{markdown(table)}\n\n{caption}\n")
    write_atomically(output / "table.tex", latex(table, caption))
    said = list(sentences(results))
    made_of = {"question": comparison.question, "answer": said, "methods": methods(results), "command": typed}
    write_atomically(output / "comparison.json", json.dumps(made_of, indent=2, ensure_ascii=False) + "\n")
    sections = list(_sections(results, said, table))
    drawn = write_figures(output / "figures", sections)
    facts = {"question": comparison.question, "runs": _counted(results), "command": typed}
    write_report(output / "report.html", comparison.question, facts, sections, drawn)
    _print(results, console, table, said)


def sentences(results: Results) -> Iterator[str]:
    """Yield the answer of each case, and what is not claimed."""
    comparison = results.comparison
    found = answers(results)
    for one in found:
        yield " ".join(one.sentences(comparison.baseline))
    for case in comparison.cases:
        if case not in {one.case for one in found}:
            why = "no encoding has learned it" if results.shared_seeds(case) else "no seed of all encodings is finished"
            yield f"{case}: there is no answer, since {why}."
    if (warning := caution(len(comparison.cases))) is not None and len(comparison.cases) > 1:
        yield warning
    if comparison.tuning is None:
        yield "Nothing was tuned: every encoding has the hyperparameters of its files, which may suit some better."


def _sections(results: Results, said: list[str], table: pd.DataFrame) -> Iterator[Section]:
    comparison = results.comparison
    legend = LEGEND.format(baseline=comparison.baseline)
    yield Section("Answer", "\n\n".join(said), [Table("overview", "All cases", f"Means over seeds. {legend}", table)])
    styles = figures.styles_of(list(comparison.choices_by_encoding))
    for case in comparison.cases:
        if results.encodings(case):
            yield Section(f"Evidence: {case}", "", list(_evidence(results, case, styles)))
    yield from _beside_the_paper(results)
    if tuned := list(_tunings(results, styles)):
        yield Section(
            "Tuning",
            "Every encoding had the same number of trials over the same values. Where the best value was at an end of "
            "its range, more were tried beyond; where it is still at an end, a better one may lie there.",
            tuned,
        )
    yield Section("Checks", "What must hold for the differences to be those of the encodings.", [checks(results)])
    yield Section("How it was made", methods(results), [])


def _evidence(results: Results, case: str, styles: figures.Styles) -> Iterator[ReportFigure]:
    comparison, slug = results.comparison, _slug(case)
    yield Table(
        f"table_{slug}",
        f"{case}: every encoding",
        f"Means over seeds, and the difference of each encoding to {comparison.baseline} with its 95 % interval.",
        case_table(results, case),
    )
    drawn = set()
    for criterion in comparison.criteria(case):
        rows = results.by_length(case, criterion.name)
        if criterion.name not in drawn and rows["length"].nunique() > 1:
            drawn.add(criterion.name)
            better = "lower" if criterion.direction == "minimize" else "higher"
            title = f"{case}: {criterion.name.replace('_', ' ')} by length"
            yield figures.curves(
                f"curves_{slug}_{criterion.name}", title, rows, results.plan.trained[case], styles, better
            )
        compared = differences(results, case)
        if not compared.empty:
            own = compared[(compared["metric"] == criterion.metric) & compared["low"].notna()]
            if not own.empty:
                name = f"differences_{slug}_{_slug(criterion.metric)}"
                yield figures.differences(name, criterion, own, comparison.baseline)
        yield figures.every_seed(
            f"seeds_{slug}_{_slug(criterion.metric)}", criterion, _by_seed(results, case, criterion), styles
        )
    for name in comparison.costs:
        rows = _costs(results, case, comparison.criteria(case)[0], name)
        if rows["cost"].nunique() > 1:
            yield figures.pareto(f"cost_{slug}_{name}", comparison.criteria(case)[0], rows, name, styles)


def _beside_the_paper(results: Results) -> Iterator[Section]:
    """Yield the section on the paper that a comparison repeats, if it does."""
    if (published := published_results(results.comparison)) is None:
        return
    paper = published.source
    source = f"arXiv:{paper.arxiv}{f', table {paper.table}' if paper.table else ''}"
    text = f"{paper.title} ({source})."
    if published.differences:
        text += " Our setting differs from the paper's:\n\n" + "\n\n".join(f"– {one}" for one in published.differences)
    tables = [
        Table(
            "claims",
            "Claims of the paper",
            "A claim holds if the first encoding is better than the second here, and does not hold if it is worse, or "
            "equal within the margin.",
            claims_table(results, published),
        ),
        Table(
            "published",
            "Published values",
            "In the unit of the paper, at its scale: only orders compare with ours. The last column says where a "
            "value was read.",
            values_table(published),
        ),
    ]
    yield Section("Beside the paper", text, [table for table in tables if not table.frame.empty])


def _by_seed(results: Results, case: str, criterion: Criterion) -> pd.DataFrame:
    rows = [
        {"encoding": encoding, "seed": seed, "value": number}
        for encoding in results.encodings(case)
        for seed, number in results.values(case, criterion, encoding).items()
    ]
    return pd.DataFrame(rows, columns=["encoding", "seed", "value"])


def _costs(results: Results, case: str, criterion: Criterion, name: str) -> pd.DataFrame:
    """Return the value and the cost of each encoding, and whether no other beats it in both."""
    rows = pd.DataFrame(
        [
            {"encoding": encoding, "value": scores.mean, "cost": cost(results, case, encoding, name)}
            for encoding, scores in results.scores(case, criterion).items()
        ],
        columns=["encoding", "value", "cost"],
    ).dropna()
    gain = rows["value"] * (-1 if criterion.direction == "minimize" else 1)
    price = rows["cost"] * (-1 if name in MORE_IS_BETTER else 1)
    beaten = [((gain >= g) & (price <= p) & ((gain > g) | (price < p))).any() for g, p in zip(gain, price, strict=True)]
    return rows.assign(on_front=~np.array(beaten, dtype=bool))


def _tunings(results: Results, styles: figures.Styles) -> Iterator[ReportFigure]:
    rows = []
    for case in results.comparison.cases:
        settings, tuned = results.comparison.tuning_of(case), results.tuned(case)
        if settings is None or not tuned:
            continue
        for encoding, choice in tuned.items():
            edge = listed(list(choice.at_the_edge)) if choice.at_the_edge else ""
            rows.append(
                {"case": case, "encoding": encoding, "trials": len(choice.trials), **choice.point, "at an end": edge}
            )
        for key, values in settings.space.items():
            if len(values) > 1 and all(isinstance(v, int | float) and v > 0 for v in values):
                yield figures.tuning(f"tuning_{_slug(case)}_{_slug(key)}", case, key, tuned, settings, styles)
    if rows:
        yield Table("tuned", "Tuned values", "The best trial of each encoding, by validation.", pd.DataFrame(rows))


def _counted(results: Results) -> str:
    """Return in words how many runs there are."""
    comparison = results.comparison
    total = len(comparison.pairs) * len(comparison.seed_list)
    failed = f", {len(results.failed)} failed" if results.failed else ""
    return (
        f"{len(results.cells)} of {total} runs: {len(comparison.choices_by_encoding)} encodings, "
        f"{len(comparison.cases)} case{'s' if len(comparison.cases) > 1 else ''}, "
        f"{len(comparison.seed_list)} seeds{failed}."
    )


def _print(results: Results, console: Console, table: pd.DataFrame, said: list[str]) -> None:
    for sentence in said:
        console.print(sentence)
    comparison = results.comparison
    for case in comparison.cases:
        prefix = "" if len(comparison.cases) == 1 else f"{case} "
        lines = Lines(box=box.SIMPLE_HEAD, title=case, title_justify="left")
        lines.add_column("encoding")
        columns = [f"{prefix}{criterion.metric}" for criterion in comparison.criteria(case)]
        for column in columns:
            lines.add_column(column.removeprefix(prefix), justify="right")
        for row in table.to_dict("records"):
            lines.add_row(str(row["encoding"]), *(str(row[column]) for column in columns))
        console.print(lines)
    console.print(LEGEND.format(baseline=comparison.baseline))
    console.print(f"written: {Path(comparison.output) / 'report.html'}", soft_wrap=True)
    if results.failed:
        cell = results.failed[0]
        console.print(
            f"{len(results.failed)} runs failed, such as {cell.label}: see train.log in {cell.directory}",
            soft_wrap=True,
        )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
