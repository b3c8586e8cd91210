"""The report of a comparison: the answer first, then its evidence, the checks, and how it was made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from poslab.configuration.labels import names_in_pictures
from poslab.experiments.comparison import file_name
from poslab.experiments.costs import COSTS
from poslab.experiments.criteria import Criterion
from poslab.experiments.direction import sign
from poslab.experiments.report import figures
from poslab.experiments.report.checks import checks
from poslab.experiments.report.conclusions import conclusions, reservations
from poslab.experiments.report.methods import NO_RUN, methods
from poslab.experiments.report.papers import beside_the_paper
from poslab.experiments.report.speeds import speed_table, speeds_frame, speeds_in_markdown
from poslab.experiments.report.summary import OverCases
from poslab.experiments.report.tables import (
    LEGEND,
    at_each_length,
    case_table,
    differences,
    fewer_items,
    overview,
    unequal_seeds,
    verdict_table,
)
from poslab.experiments.report.terminal import print_results
from poslab.experiments.report.tuned import tuned_table, tuning_pictures
from poslab.experiments.results import Results
from poslab.io.files import write_atomically
from poslab.report.figures import Plot, ReportFigure, Table
from poslab.report.page import Section, write_figures, write_report
from poslab.report.sentences import amount
from poslab.report.text_tables import in_markdown, latex, markdown


def write(results: Results, console: Console, typed: str, figure_width: float | None = None) -> None:
    """Write results.csv, differences.csv, speeds.csv, the tables, the figures and report.html, and print the answer.

    The command is shown as the way to make the report again; the width is that of `write_figures`.
    """
    comparison, output = results.comparison, Path(results.comparison.output)
    console.print("writing the report")
    write_atomically(output / "results.csv", results.frame().to_csv(index=False))
    compared = [differences(results, case) for case in comparison.cases]
    write_atomically(output / "differences.csv", pd.concat(compared).to_csv(index=False))
    if not (timed := speeds_frame(results)).empty:
        write_atomically(output / "speeds.csv", timed.to_csv(index=False))
        write_atomically(output / "speeds.md", speeds_in_markdown(results))
    table = overview(results)
    legend = _legend(results, table)
    caption = " ".join([comparison.question, f"Finished: {_counted(results)}", legend])
    write_atomically(output / "table.csv", table.to_csv(index=False))
    write_atomically(output / "table.md", f"{markdown(table)}\n\n{in_markdown(caption)}\n")
    write_atomically(output / "table.tex", latex(table, caption))
    said, notes = conclusions(results), list(reservations(results))
    sentences = [*(f"{case}: {text}" for case, text in said.items()), *notes] if results.cells else [NO_RUN]
    overall = Table(
        "overview", "All cases", f"Means over seeds; shares such as accuracy are from 0 to 100. {legend}", table
    )
    lead, sections = Section("Answer", "\n\n".join(sentences), [overall]), list(_sections(results))
    made_of = {
        "question": comparison.question,
        "answer": sentences,
        "legend": legend,
        "pictures": {
            figure.name: {"title": f"{section.title}: {figure.title}", "caption": figure.caption}
            for section in sections
            for figure in section.figures
            if isinstance(figure, Plot)
        },
        "methods": methods(results),
        "differences": list(comparison.differences),
        "command": typed,
    }
    write_atomically(output / "comparison.json", json.dumps(made_of, indent=2, ensure_ascii=False) + "\n")
    drawn = write_figures(output / "figures", [lead, *sections], figure_width)
    in_pictures = names_in_pictures(comparison.choices_by_encoding)
    facts = {"runs": _counted(results), **({"in pictures": in_pictures} if in_pictures else {}), "command": typed}
    write_report(output / "report.html", comparison.question, facts, sections, drawn, lead)
    print_results(results, console, table, legend, sentences)


def _legend(results: Results, table: pd.DataFrame) -> str:
    """Return what the signs of a table mean, and which means are over fewer seeds or test items than others."""
    comparison, used = results.comparison, set("".join(table.drop(columns="encoding").to_numpy().ravel()))
    signs = [f"{mark} {meaning}" for mark, meaning in LEGEND.items() if mark in used]
    meanings = f"Beside {comparison.baseline}, the baseline: {', '.join(signs)}." if signs else ""
    notes = (note(results, case) for note in (unequal_seeds, fewer_items) for case in comparison.cases)
    return " ".join(filter(None, [meanings, *notes]))


def _sections(results: Results) -> Iterator[Section]:
    comparison = results.comparison
    styles = figures.styles_of(list(comparison.choices_by_encoding))
    if (over_cases := OverCases(results)).enough:
        yield over_cases.section(styles)
    for case in comparison.cases:
        if results.encodings(case):
            yield Section(case, "", list(_evidence(results, case, styles)))
    yield from beside_the_paper(results)
    if (table := tuned_table(results)) is not None:
        text = (
            "Every encoding had the same number of trials, and a few more where its best value was at an end of its "
            "range, all at the trained length and on a seed that is not compared."
        )
        yield Section("Tuning", text, [table, *tuning_pictures(results, styles)])
    yield Section("Checks", "What must hold for the differences to be those of the encodings.", [checks(results)])
    yield Section("How it was made", methods(results), [])


def _evidence(results: Results, case: str, styles: figures.Styles) -> Iterator[ReportFigure]:
    comparison, slug = results.comparison, file_name(case)
    gate = "" if comparison.gate_of(case) is None else " Learned: how many seeds pass the gate."
    caption = f"Means over seeds.{gate} A dash: no result at these lengths. {fewer_items(results, case)}".strip()
    yield Table(f"table_{slug}", "Means and costs", caption, case_table(results, case))
    if (speeds := speed_table(results, case)) is not None:
        yield speeds
    compared, drawn = differences(results, case), set()
    without = [name for name, choices in comparison.choices_by_encoding.items() if choices["encoding"] == "none"]
    for criterion in comparison.criteria(case):
        rows, tag = results.by_length(case, criterion.name), file_name(criterion.metric)
        if criterion.name not in drawn and rows["length"].nunique() > 1:
            drawn.add(criterion.name)
            title = f"{criterion.name} by length"
            length_of = results.tasks[case].length_words.of
            trained = results.plan.trained[case] if results.has_trained(case) else None
            name, always = f"curves_{slug}_{criterion.name}", [comparison.baseline, *without]
            named = figures.named_styles(styles, rows, always, criterion.direction)
            yield figures.curves(name, title, rows, length_of, trained, named, criterion.direction)
            yield at_each_length(f"lengths_{slug}_{criterion.name}", criterion.name, rows)
        verdicts, caption = verdict_table(results, case, criterion), f"Differences are those to {comparison.baseline}."
        if not verdicts.empty:
            yield Table(f"verdicts_{slug}_{tag}", f"Verdicts: {criterion.metric}", caption, verdicts)
        if not compared.empty:
            own = compared[(compared["metric"] == criterion.metric) & compared["low"].notna()]
            if not own.empty:
                yield figures.differences(f"differences_{slug}_{tag}", criterion, own, comparison.baseline)
        by_seed = _by_seed(results, case, criterion)
        if np.isfinite(by_seed["value"].to_numpy(dtype=float)).any():
            yield figures.every_seed(f"seeds_{slug}_{tag}", criterion, by_seed, styles)
    first = comparison.criteria(case)[0]
    for name in comparison.costs:
        rows = _costs(results, case, first, name)
        if rows["cost"].nunique() > 1:
            yield figures.pareto(f"cost_{slug}_{name}", first, rows, name, styles)


def _by_seed(results: Results, case: str, criterion: Criterion) -> pd.DataFrame:
    rows = [
        {"encoding": encoding, "seed": seed, "value": number}
        for encoding in results.reaching(case, criterion)
        for seed, number in results.values(case, criterion, encoding).items()
    ]
    return pd.DataFrame(rows, columns=["encoding", "seed", "value"])


def _costs(results: Results, case: str, criterion: Criterion, name: str) -> pd.DataFrame:
    """Return the value and the cost of each encoding that has learned, and whether no other beats it in both."""
    rows = pd.DataFrame(
        [
            {
                "encoding": encoding,
                "value": results.mean(case, criterion, encoding),
                "cost": results.cost(case, encoding, name),
            }
            for encoding in results.reaching(case, criterion)
            if encoding not in results.not_learned(case)
        ],
        columns=["encoding", "value", "cost"],
    ).dropna()
    gain = rows["value"] * sign(criterion.direction)
    price = rows["cost"] * (-1 if COSTS[name].more_is_better else 1)
    beaten = [((gain >= g) & (price <= p) & ((gain > g) | (price < p))).any() for g, p in zip(gain, price, strict=True)]
    return rows.assign(on_front=~np.array(beaten, dtype=bool))


def _counted(results: Results) -> str:
    """Return in words how many runs are finished."""
    comparison = results.comparison
    # Runs that exist already need not have the same seeds.
    total = "" if results.places else f" of {len(comparison.pairs) * len(comparison.seed_list)}"
    counts = {"failed": len(results.failed), "cannot begin": len(results.blocked)}
    others = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return (
        f"{len(results.cells)}{total} runs{others and f' ({others})'}: "
        f"{len(comparison.choices_by_encoding)} encodings, {amount(len(comparison.cases), 'case')}, "
        f"{amount(len(comparison.seed_list), 'seed')}."
    )
