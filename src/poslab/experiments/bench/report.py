"""The scores of benchmarks as the results of a comparison, with its tables and its report, or as one table."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poslab.evaluation.benchmarks.subjects import Subject
from poslab.evaluation.benchmarks.tasks import Benchmark, ItemMetric
from poslab.evaluation.scores.items import ItemScores, MeasuredRun
from poslab.experiments.bench.plan import BenchRequest
from poslab.experiments.collect import SPECIFICATION, write_tables
from poslab.experiments.command import Publication
from poslab.experiments.comparison import Comparison
from poslab.experiments.metrics import tag_of
from poslab.experiments.mistakes import checked
from poslab.experiments.report.write import print_table
from poslab.experiments.results import Results
from poslab.experiments.tables import CURVES, ITEMS, RUNS, RunResult
from poslab.io.files import write_atomically
from poslab.io.terminal import HarmlessConsole
from poslab.report.text import amount

OWNER = "benchmarks"
"""Owner of a directory with benchmarks, instead of the identity of a study."""

SCORES = "scores.csv"
"""File with the table of one encoding."""
REPORT = ("report.html", "figures")
COMPARED = (*REPORT, SPECIFICATION, RUNS, CURVES, ITEMS, "results.csv", "differences.csv", "table.*")
"""Patterns of the files that several encodings have instead."""

Measured = Mapping[Subject, Sequence[Sequence[ItemMetric] | None]]
"""Metrics of each model on each benchmark; None where its positions end before."""


def write_scores(
    benchmarks: Sequence[Benchmark], measured: Measured, request: BenchRequest, output: Path, console: HarmlessConsole
) -> None:
    """Write the scores as the tables of a comparison with its report, or of one encoding as a table, and print them."""
    if len({subject.name for subject in measured}) > 1:
        results = results_of(benchmarks, measured, request, output)
        write_tables(results, output)
        _remove(output, SCORES, *REPORT)  # of other encodings or tasks, measured before
        Publication(request.typed, None, request.figure_width).write(results, console)
        return
    rows = [
        (b.name, tag_of(m.name, m.length), subject.seed, sum(m.sums) / sum(m.counts), len(m.sums))
        for subject, metrics in sorted(measured.items(), key=lambda pair: pair[0].seed)
        for b, of_task in zip(benchmarks, metrics, strict=True)
        for m in of_task or ()
    ]
    frame = pd.DataFrame(rows, columns=["task", "metric", "seed", "value", "items"])
    if len(measured) == 1:
        frame = frame.drop(columns="seed")
    write_atomically(output / SCORES, frame.to_csv(index=False))
    _remove(output, *COMPARED)
    print_table(console, next(iter(measured)).name, frame)
    console.print(f"written: {output / SCORES}", soft_wrap=True)


def _remove(output: Path, *patterns: str) -> None:
    for path in (path for pattern in patterns for path in output.glob(pattern)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def results_of(benchmarks: Sequence[Benchmark], measured: Measured, request: BenchRequest, output: Path) -> Results:
    """Return scores as results, with a case for each task."""
    names = list(dict.fromkeys(subject.name for subject in measured))
    scores = dict[tuple[Subject, str], dict[tuple[str, int | None], ItemScores]]()
    criteria, lengths, open_ended = dict[str, dict[str, Any]](), dict[str, set[int]](), set[str]()
    for subject, of_model in measured.items():
        for benchmark, metrics in zip(benchmarks, of_model, strict=True):
            of_case = scores.setdefault((subject, benchmark.name), {})
            for metric in metrics or ():
                key, arrays = (metric.name, metric.length), (np.array(metric.sums), np.array(metric.counts))
                of_case[key] = ItemScores(*key, *arrays, benchmark.identity)
                margin = request.margin if metric.is_share or metric.name == "recovery" else request.loss_margin
                name = "position_loss" if metric.name == "position_loss" else tag_of(*key)
                criterion = {"direction": "maximize" if metric.maximize else "minimize", "margin": margin}
                criteria.setdefault(benchmark.name, {})[name] = criterion
                lengths.setdefault(benchmark.name, set()).update(filter(None, [metric.length]))
                open_ended |= set() if metric.is_share else {metric.name}
    rows = [
        RunResult(
            case,
            subject.name,
            subject.seed,
            words=subject.words,
            task=OWNER,
            open_ended=sorted(open_ended),
            training_length=subject.training_length,
            lengths=sorted(lengths.get(case, ())),
            metrics={"steps": subject.steps},
            scores={tag_of(*key): of_metric.value for key, of_metric in of_case.items()},
            directory=subject.path,
        )
        for (subject, case), of_case in scores.items()
    ]
    items = {row.key: MeasuredRun(row.encoding, "test", s, {}) for row, s in zip(rows, scores.values(), strict=True)}
    comparison = Comparison(
        name=OWNER,
        question=f"How well do {amount(len(names), 'encoding')} answer {amount(len(criteria), 'task')}?",
        baseline=request.baseline or names[0],
        encodings=[{"name": name} for name in names],
        cases={case: {"train": {}, "metrics": of_case} for case, of_case in criteria.items()},
        seeds=sorted({subject.seed for subject in measured}),
        costs=[],
        output=str(output),
    )
    return Results(checked(comparison), rows, lambda run: items.get(run.key), exist_already=True)
