"""Collects run directories into the tables of results, and reads results from tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from poslab.configuration.command_line import CONF, in_hydras_grammar
from poslab.evaluation.scores.items import MeasuredRun, read_measured
from poslab.experiments.cells import EXTRA_SCORES, SCORES, Cell, CellResult, Finished
from poslab.experiments.comparison import Comparison, made
from poslab.experiments.mistakes import checked
from poslab.experiments.plan import CellPlan
from poslab.experiments.results import Results
from poslab.experiments.tables import (
    ITEMS,
    RUNS,
    ItemTable,
    RunResult,
    read_curves,
    read_runs,
    write_curves,
    write_items,
    write_runs,
)
from poslab.io.files import read_json, read_text, read_yaml, write_atomically
from poslab.runs.directory import LARGEST_INTEGER, RunDirectory
from poslab.runs.recipe import Recipe

SPECIFICATION = "comparison.yaml"  # file of the comparison as it was asked, next to its tables

OF_A_MACHINE = ("output", "workers", "storage", "lost_after", "trust")
"""Keys of a comparison that its results do not depend on."""

MAX_CURVES = 500_000_000  # most bytes of the metrics.csv of a run


def results_of_cells(plan: CellPlan, finished: Finished, recipes: Mapping[str, Recipe]) -> Results:
    """Return the results of the finished cells of a comparison, whose run directories are in its output.

    `recipes` has one of each case, for its task and the version of the split of its data.
    """
    comparison, output = plan.comparison, Path(plan.comparison.output)
    wanted, _ = plan.wanted(finished)
    known = [(cell, finished[cell.identity]) for cell in wanted if cell.identity in finished]
    rows = []
    for cell, result in [*known, *((cell, None) for cell in plan.blocked(finished))]:
        run = RunDirectory(output / cell.directory)
        row = row_of(run, cell, result, recipes[cell.case], plan.trained[cell.case])
        status = row.status if cell.identity in finished else "blocked"
        rows.append(replace(row, status=status, words=_words(comparison, cell, row), identity=cell.identity))
    table = cache(lambda: ItemTable(output))

    def items(run: RunResult) -> MeasuredRun | None:
        here = items_of_directory(run)
        return table().of(run.key) if here is None and (output / ITEMS).is_file() else here

    return Results(comparison, rows, items)


def row_of(run: RunDirectory, cell: Cell, result: CellResult | None, recipe: Recipe, trained: int) -> RunResult:
    """Return the row of a run; without a result it has failed."""
    environment: Mapping[str, Any] = read_json(run.environment_file) if run.environment_file.is_file() else {}
    typed, task = environment.get("choices"), recipe.task
    row = RunResult(
        cell.case,
        cell.encoding,
        cell.seed,
        cell.is_trial,
        point=dict(cell.point),
        words=tuple(map(str, typed)) if isinstance(typed, list) else (),
        commit=str(environment.get("commit") or ""),
        task=task.__name__,
        aggregate_lengths=task.aggregate_lengths,
        open_ended=tuple(sorted(task.open_ended)),
        length_unit=task.length_words.of,
        training_length=trained,
        lengths=tuple(cell.lengths),
        newest_split=str(recipe.source.split_version),
        directory=str(run.path),
    )
    if result is None:
        return replace(row, status="failed")
    return replace(
        row,
        status="diverged" if result.diverged else "finished",
        reason=result.diverged,
        commit=result.commit or row.commit,
        machine=result.machine,
        batch=result.start.get("batch"),
        weights=result.start.get("weights"),
        split=result.start.get("split") or "1",
        metrics=result.metrics,
        scores=result.scores,
    )


def _words(comparison: Comparison, cell: Cell, run: RunResult) -> list[str]:
    """Return the command line of `python -m src.train` that composes a cell."""
    choices = {**comparison.train, **comparison.all_cases[cell.case].train}
    choices |= {**comparison.choices_by_encoding[cell.encoding], **cell.point, "seed": cell.seed}
    words = [
        f"~{key}" if value is None and (CONF / key).is_dir() else f"{key}={in_hydras_grammar(value)}"
        for key, value in choices.items()
    ]
    if comparison.budget is not None:  # it may be one of tokens, and the run on another machine
        config = RunDirectory(Path(run.directory)).config_file
        known = read_yaml(config)["trainer"]["max_steps"] if config.is_file() else run.metrics.get("steps")
        steps = comparison.budget.get("steps", known)
        words += [] if steps is None else [f"trainer.max_steps={int(steps)}"]
    return [*words, *comparison.overrides_of(cell.case), *([] if cell.after is None else [f"init_from={cell.after}"])]


def items_of_directory(run: RunResult) -> MeasuredRun | None:
    """Return the scores of a run on each test item, as its directory keeps them; None if it has none."""
    files = [Path(run.directory) / name for name in (SCORES, EXTRA_SCORES)]
    try:
        measured = read_measured(files[0])
        return measured.joined(read_measured(files[1])) if files[1].exists() else measured
    except ValueError:
        return None


def write_tables(results: Results, folder: Path) -> None:
    """Write the comparison and the three tables of its results.

    Curves and items of runs that are elsewhere stay as in the tables that the folder has.
    """
    node = {key: value for key, value in asdict(results.comparison).items() if key not in OF_A_MACHINE}
    node |= {"exist_already": True} if results.exist_already else {}
    text = yaml.safe_dump(json.loads(json.dumps(node)), sort_keys=False, allow_unicode=True)
    write_atomically(folder / SPECIFICATION, text)
    finished = results.finished
    curves = {run.key: _curves(run) for run in finished}
    if (folder / RUNS).is_file() and (elsewhere := {run.identity for run in finished if not curves[run.key]} - {""}):
        same = {run.key for run in read_runs(folder) if run.identity in elsewhere}
        curves |= {key: curve for key, curve in read_curves(folder).items() if key in same}
    write_curves(folder, curves)
    write_items(folder, {run.key: items for run in finished if (items := results.measured(run)) is not None})
    write_runs(folder, results.rows)


def _curves(run: RunResult) -> list[tuple[int, str, float]]:
    """Return step, metric and value of each line of metrics.csv; ValueError, naming it, for one that has others.

    There are none of a run that this machine has begun, and another one has finished.
    """
    directory = RunDirectory(Path(run.directory))
    file, is_here = directory.metrics_csv, directory.is_finished or run.diverged
    text = read_text(file, MAX_CURVES) if is_here and file.is_file() else ""
    try:
        rows = [(int(line["step"]), line["tag"], float(line["value"])) for line in csv.DictReader(io.StringIO(text))]
        if all(0 <= step <= LARGEST_INTEGER and tag.isprintable() for step, tag, _ in rows):
            return rows
        raise ValueError("a step or a metric is none")
    except (ValueError, TypeError, KeyError, AttributeError, csv.Error) as error:
        raise ValueError(f"{file} is damaged: it does not contain a step, a metric and a value in each line") from error


def read_results(folder: Path, baseline: str | None = None) -> Results:
    """Return the results in a folder with tables, compared with another baseline if one is given.

    ValueError, naming the file, if one is missing, damaged, or contains something else.
    """
    node = read_yaml(folder / SPECIFICATION)
    exist_already = node.pop("exist_already", False) is True
    node = {key: value for key, value in node.items() if key not in OF_A_MACHINE}
    node = node if baseline is None else {**node, "baseline": baseline}
    comparison = checked(made(Comparison, str(folder / SPECIFICATION), node, output=str(folder)))
    rows = read_runs(folder)
    known = set(comparison.pairs)
    if strange := [run.label for run in rows if (run.case, run.encoding) not in known]:
        raise ValueError(f"{folder / RUNS} has a run that its {SPECIFICATION} does not name: {strange[0]}")
    table = ItemTable(folder)
    return Results(comparison, rows, lambda run: table.of(run.key), exist_already)
