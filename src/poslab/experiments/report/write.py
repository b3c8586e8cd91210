"""The report of a comparison (the answer first, then its evidence, the checks, its methods), and recommendations."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as Lines

from poslab.arguments import Count, Positive, Range, with_checked_arguments
from poslab.configuration.labels import names_in_plots, short_key
from poslab.evaluation.scores.extra_metrics import EXTRA
from poslab.experiments.criteria import Criterion
from poslab.experiments.published import published_results
from poslab.experiments.report import figures, tables
from poslab.experiments.report.by_length import USE_LEGEND, longer_context, speed_table, speeds_frame
from poslab.experiments.report.checks import checks, methods
from poslab.experiments.report.papers import paper_section, prediction_section, predictions_table, values_table
from poslab.experiments.report.scale import decisions_in_lines, scale_section
from poslab.experiments.report.summary import OverCases, corpora_table
from poslab.experiments.report.tables import BEST, ranking
from poslab.experiments.results import Results
from poslab.experiments.statistics.verdict import Word
from poslab.io.files import write_atomically
from poslab.report.figures import ReportFigure, Section, Table, write_figures, write_report
from poslab.report.text import amount, file_name, in_markdown, latex, markdown, readable


def write(results: Results, console: Console, typed: str, figure_width: float | None = None) -> None:
    """Write CSV files, tables for papers, figures and report.html, and print the best encodings.

    The command is shown as the way to make the report again; the width is as of `write_figures`.
    """
    comparison, output = results.comparison, Path(results.comparison.output)
    console.print("writing the report")
    write_atomically(output / "results.csv", results.frame().to_csv(index=False))
    compared = [tables.differences(results, case) for case in comparison.cases]
    write_atomically(output / "differences.csv", pd.concat(compared).to_csv(index=False))
    if not (timed := speeds_frame(results)).empty:
        write_atomically(output / "speeds.csv", timed.to_csv(index=False))
    table = tables.overview(results)
    signs = tables.legend(results, table)
    caption = " ".join([comparison.question, f"Finished: {_counted(results)}", signs])
    headed = table.rename(columns={"encoding": comparison.heading})
    write_atomically(output / "table.csv", headed.to_csv(index=False))
    write_atomically(output / "table.md", f"{markdown(headed)}\n\n{in_markdown(caption)}\n")
    write_atomically(output / "table.tex", latex(headed, caption))
    of_best = "Verdicts relative to the best mean, simultaneous for all pairs of encodings of a case."
    of_all = f"Means over seeds; shares such as accuracy are from 0 to 100. {signs}"
    answers = [
        tables.differing_table(comparison),
        Table("best", "Best encodings", of_best, tables.best_table(results)),
        Table("overview", "All cases", of_all, table),
        tables.order_by_metric(results),
    ]
    lead = Section("Answer", "", [answer for answer in answers if answer is not None])
    lead, *sections = (_headed(section, comparison.heading) for section in [lead, *_sections(results)])
    drawn = write_figures(output / "figures", [lead, *sections], figure_width)
    in_plots = names_in_plots(comparison.choices_by_encoding)
    facts = {"runs": _counted(results), **({"in plots": in_plots} if in_plots else {}), "command": typed}
    write_report(output / "report.html", comparison.question, facts, sections, drawn, lead)
    _print(results, console, lead, table, signs)


def _headed(section: Section, heading: str) -> Section:
    """Return a section in whose tables, titles and captions contestants have their heading."""
    headed = []
    for figure in section.figures if heading != "encoding" else ():
        words = {key: _in_words(getattr(figure, key), heading) for key in ("title", "caption")}
        if isinstance(figure, Table) and figure.name != tables.DIFFERING:
            figure = replace(figure, frame=figure.frame.rename(columns={"encoding": heading}))
        headed.append(replace(figure, **words))
    return replace(section, figures=headed or section.figures)


def _in_words(text: str, heading: str) -> str:
    """Return a text on encodings as one on contestants of a heading."""
    text = re.sub(r"\b([Aa])n(?= encoding\b)", r"\1", text)
    return re.sub(r"\bencoding(s?)\b", rf"{heading}\1", text).replace("Encodings", f"{heading.capitalize()}s")


def _sections(results: Results) -> Iterator[Section]:
    comparison = results.comparison
    styles = figures.styles_of(list(comparison.choices_by_encoding))
    if (over_cases := OverCases(results)).enough:
        yield over_cases.section(styles)
    yield from scale_section(results, styles)
    if (table := corpora_table(results)) is not None:
        yield Section("Over all corpora", "", [table])
    for case in comparison.cases:
        if results.encodings(case):
            yield Section(case, "", list(_evidence(results, case, styles)))
    yield from paper_section(results)
    yield from prediction_section(results)
    if (table := tables.tuned_table(results)) is not None:
        yield Section("Tuning", "", [table, *_budgets(results, styles)])
    yield Section("Checks", "", [checks(results)])
    yield Section("How it was made", "", [methods(results)])


def _budgets(results: Results, styles: figures.Styles) -> Iterator[ReportFigure]:
    """Yield the expected best of each tuning by the number of its trials."""
    caption = "The expected best of that many trials, drawn from those that were run: where curves cross, the answer "
    caption += "depends on the budget of tuning. A trial that failed counts as the worst of the others."
    source = "Dodge et al., Show Your Work: Improved Reporting of Experimental Results (2019), section 3"
    for case in results.comparison.cases:
        tuning = results.comparison.tuning_of(case)
        if tuning is not None and not (rows := tables.expected_best_rows(results, case, tuning)).empty:
            title, name = f"Expected best by trials: {case}", f"budget_{file_name(case)}"
            plot = figures.curves(name, title, rows, "", None, styles, tuning.direction)
            plot.figure.axes[0].set_xlabel("number of trials")
            yield replace(plot, caption=caption, source=source)
            table = tables.at_each_length(f"{name}_table", rows["metric"][0], rows)
            yield replace(table, title=title, caption="The values of the plot, by the number of trials.")


def _evidence(results: Results, case: str, styles: figures.Styles) -> Iterator[ReportFigure]:
    comparison, slug = results.comparison, file_name(case)
    gate = "" if comparison.gate_of(case) is None else " Learned: how many seeds pass the gate."
    caption = (
        f"Means over seeds.{gate} A dash: no result at these lengths. {' '.join(tables.notes(results, case))}".strip()
    )
    yield Table(f"table_{slug}", "Means and costs", caption, tables.case_table(results, case))
    if (context := longer_context(results, case)) is not None:
        yield context
    if (speeds := speed_table(results, case)) is not None:
        yield speeds
    if (price := tables.price_table(results, case)) is not None:
        yield price
    compared, drawn = tables.differences(results, case), set()
    without = [name for name, choices in comparison.choices_by_encoding.items() if choices.get("encoding") == "none"]
    for criterion in comparison.criteria(case):
        rows, tag = results.by_length(case, criterion.name), file_name(criterion.metric)
        if criterion.name not in drawn and rows["length"].nunique() > 1:
            drawn.add(criterion.name)
            title = f"{criterion.name} by length"
            trained = results.training_length(case) if results.has_trained(case) else None
            name, always = f"curves_{slug}_{criterion.name}", [comparison.baseline, *without]
            named = figures.named_styles(styles, rows, always, criterion.direction)
            yield figures.curves(
                name, title, rows, results.first_run(case).length_unit, trained, named, criterion.direction
            )
            yield tables.at_each_length(f"lengths_{slug}_{criterion.name}", criterion.name, rows)
        verdicts, caption = tables.verdict_table(results, case, criterion), f"Differences to {comparison.baseline}."
        if not verdicts.empty:
            yield Table(f"verdicts_{slug}_{tag}", f"Verdicts: {criterion.metric}", caption, verdicts)
        if not compared.empty:
            differing = compared[(compared["metric"] == criterion.metric) & compared["low"].notna()]
            if not differing.empty:
                yield figures.differences(f"differences_{slug}_{tag}", criterion, differing, comparison.baseline)
        by_seed = _by_seed(results, case, criterion)
        if not results.are_given(case) and np.isfinite(by_seed["value"].to_numpy(dtype=float)).any():
            yield figures.every_seed(f"seeds_{slug}_{tag}", criterion, by_seed, styles)


def _by_seed(results: Results, case: str, criterion: Criterion) -> pd.DataFrame:
    rows = [
        {"encoding": encoding, "seed": seed, "value": number}
        for encoding in results.reaching(case, criterion)
        for seed, number in results.values(case, criterion, encoding).items()
    ]
    return pd.DataFrame(rows, columns=["encoding", "seed", "value"])


def _counted(results: Results) -> str:
    """Return in words how many runs are finished."""
    comparison = results.comparison
    # Runs that exist already need not have the same seeds.
    wanted = sum(len(comparison.seeds_of(case)) for case, _ in comparison.pairs)
    total = "" if results.exist_already else f" of {wanted}"
    counts = {"failed": len(results.failed), "cannot begin": len(results.blocked)}
    others = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return (
        f"{len(results.finished)}{total} runs{others and f' ({others})'}: "
        f"{len(comparison.choices_by_encoding)} {comparison.heading}s, {amount(len(comparison.cases), 'case')}, "
        f"{amount(len(comparison.seed_list), 'seed')}."
    )


def _print(results: Results, console: Console, lead: Section, table: pd.DataFrame, signs: str) -> None:
    """Print the tables of the answer, the table of all cases by case, and where the report is."""
    comparison = results.comparison
    heading = {"encoding": comparison.heading}
    if results.finished:
        answers = {figure.name: figure for figure in lead.figures if isinstance(figure, Table)}
        for answer in (answers[name] for name in (tables.DIFFERING, "best", "order") if name in answers):
            keys = list(map(str, answer.frame))
            short = {key: short_key(key, keys) for key in keys} if answer.name == tables.DIFFERING else {}
            print_table(console, answer.title.lower(), answer.frame.rename(columns=short))
        for case in comparison.cases:
            prefix = "" if len(comparison.cases) == 1 else f"{case} "
            of_case = table[table["encoding"].isin(comparison.encodings_of(case))]
            columns = {f"{prefix}{criterion.metric}": criterion.metric for criterion in comparison.criteria(case)}
            print_table(console, case, of_case[["encoding", *columns]].rename(columns=columns | heading))
        console.print(signs)
        contexts = {case: longer_context(results, case) for case in comparison.cases}
        for case, context in contexts.items():
            if context is not None:
                print_table(console, f"longer context: {case}", context.frame.iloc[:, :-3].rename(columns=heading))
        for price in (tables.price_table(results, case) for case in comparison.cases):
            if price is not None:
                print_table(console, price.name.replace("_", ": ", 1), price.frame.rename(columns=heading))
        if any(context is not None for context in contexts.values()):
            console.print(USE_LEGEND)
        if not (decided := decisions_in_lines(results)).empty:
            print_table(console, "decision accuracy: pairs in the order of the largest size", decided)
        if outcomes := predictions_table(results)["outcome"].value_counts().to_dict():
            console.print(f"predictions: {', '.join(f'{word} {count}' for word, count in outcomes.items())}")
    published = published_results(comparison)
    if published is not None and any(value.head_dim for value in published.values):  # computed without any run
        print_table(console, "published values", values_table(results, published.values))
    console.print(f"written: {Path(comparison.output) / 'report.html'}", soft_wrap=True)
    for runs, state in ((results.failed, "failed"), (results.blocked, "cannot begin")):
        if runs:
            log = f": see {Path(runs[0].directory) / 'train.log'}" if runs[0].status == "failed" else ""
            console.print(f"{amount(len(runs), 'run')} {state}, such as {runs[0].label}{log}", soft_wrap=True)


def print_table(console: Console, title: str, table: pd.DataFrame) -> None:
    """Print a table, as several with fewer columns each if the terminal is too narrow.

    Each of them starts with the columns that distinguish the rows: as many as that takes, or the first one.
    """
    names = list(table.columns)
    distinct = (n for n in range(1, len(names)) if not table[names[:n]].astype(str).duplicated().any())
    first = next(distinct, 1)
    keys, columns = names[:first], names[first:]
    unbounded = console.options.update(max_width=10_000)
    while columns:
        for count in range(len(columns), 0, -1):
            lines = _lines(title, table[[*keys, *columns[:count]]])
            if console.measure(lines, options=unbounded).maximum <= console.width:
                break
        console.print(lines)
        columns = columns[count:]


def _lines(title: str, table: pd.DataFrame) -> Lines:
    lines = Lines(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for index, column in enumerate(table.columns):
        lines.add_column(str(column).replace("_", " "), justify="right" if index else "left")
    for cells in table.itertuples(index=False):
        lines.add_row(*map(_shown, cells))
    return lines


def _shown(cell: object) -> str:
    """Return a cell as text, with room for a sign, which others in its column may have."""
    if not isinstance(cell, str):
        return "–" if pd.isna(cell) else readable([cell])[0]  # type: ignore[call-overload, list-item]
    is_number = cell[:1].isdigit() or cell[:1] in "−–"
    return cell if cell[-1:] in tables.LEGEND or not is_number else f"{cell}\N{NO-BREAK SPACE}\N{NO-BREAK SPACE}"


SPEED, MEMORY = "train_tokens_per_second", "memory"


@with_checked_arguments
@dataclass(frozen=True)
class Needs:
    """Requirements of a user."""

    # longest text or example that the model must handle, in the measure of the test; None is any
    length: Count | None = None
    memory: Positive | None = None  # most memory in MB, of training, or if a length is given of reading it
    # least tokens per second, of training, or if a length is given of reading it
    speed: Annotated[float, Range(above=0)] | None = None


@dataclass(frozen=True)
class Recommendation:
    """The encoding to take in a case (None without evidence for one), the metric and the lengths, and the table.

    The table has encodings by mean, as of `ranking`, with speed, memory, and why one does not meet the need.
    """

    case: str
    take: str | None
    evidence: str
    table: pd.DataFrame


def recommendations(results: Results, needs: Needs) -> Iterator[Recommendation]:
    """Yield what each case with a seed of all encodings recommends under a need."""
    for case in filter(results.is_comparable, results.comparison.cases):
        # The first metric, at the needed length or the nearest one that was tested.
        criterion, encodings = results.comparison.criteria(case)[0], results.encodings(case)
        if needs.length is not None and len(results.lengths(case)) > 1 and criterion.name not in EXTRA:
            criterion = replace(criterion, metric=f"{criterion.name}@{_nearest(results, case, needs.length)}")
        costs = {name: _costs(results, case, name, needs) for name in encodings}
        unfit = {}
        for name, (speed, memory) in costs.items():
            if needs.speed is not None and not speed >= needs.speed:
                unfit[name] = "too slow" if math.isfinite(speed) else "speed unknown"
            elif needs.memory is not None and not memory <= needs.memory:
                unfit[name] = "too large" if math.isfinite(memory) else "memory unknown"
        table = ranking(results, case, criterion, unfit)
        if unfit:
            dropped = pd.DataFrame({"encoding": list(unfit), "verdict": list(unfit.values())})
            table = pd.concat([table, dropped], ignore_index=True)
        unknown = (math.nan, math.nan)
        table.insert(2, "tokens_per_second", [costs.get(name, unknown)[0] for name in table["encoding"]])
        table.insert(3, "memory_mb", [costs.get(name, unknown)[1] for name in table["encoding"]])
        verdicts = set(table["verdict"])
        is_tested = not verdicts.isdisjoint({Word.WORSE, Word.EQUIVALENT, Word.INCONCLUSIVE})
        is_best = BEST in verdicts and Word.BETTER not in verdicts
        take = None
        if is_best and (is_tested or Word.ONE_SEED not in verdicts):
            equal = table[table["verdict"].isin([BEST, Word.EQUIVALENT])]["encoding"]
            take = max(equal, key=lambda name: costs[name][0] if math.isfinite(costs[name][0]) else 0.0)
        tested = max(results.lengths(case), default=results.training_length(case))
        evidence = f"{criterion.metric}, trained up to {results.training_length(case)}, tested up to {tested}"
        if unequal := tables.unequal_tuning(results, case):
            evidence += f"; tuning {unequal}"
        yield Recommendation(case, take, evidence, table.dropna(axis=1, how="all"))


def print_recommendations(console: Console, results: Results, needs: Needs) -> None:
    """Print each case in a line, with its table."""
    for case in recommendations(results, needs):
        undecided = ", ".join(case.table["encoding"][case.table["verdict"] == Word.INCONCLUSIVE])
        take = "no recommendation" if case.take is None else f"take {case.take}"
        take += f"; inconclusive: {undecided}" if case.take and undecided else ""
        console.print(f"{case.case}: {take} ({case.evidence})")
        heading = {"encoding": results.comparison.heading}
        print_table(console, case.case, case.table.rename(columns=heading))


def _nearest(results: Results, case: str, length: int) -> int:
    """Return the shortest length of the test that is not below a length, or else the longest."""
    lengths = results.lengths(case)
    return min((n for n in lengths if n >= length), default=max(lengths))


def _costs(results: Results, case: str, encoding: str, needs: Needs) -> tuple[float, float]:
    """Return tokens per second and MB, of reading the needed length where that was timed, else of training."""
    timed = results.timed(case)
    if needs.length is None or not timed:
        return results.cost(case, encoding, SPEED), results.cost(case, encoding, MEMORY)
    reading = timed[encoding].reading if encoding in timed else {}
    length = _nearest(results, case, needs.length)
    speed, memory = (reading.get(f"{name}@{length}", math.nan) for name in ("tokens_per_second", "memory_mb"))
    return speed, memory
