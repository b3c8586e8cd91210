"""The work of `python -m src.bench`: measure models on tasks, with progress, or say how long that takes."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from poslab.arguments import nearest
from poslab.data import cache
from poslab.data.source import default_cache
from poslab.evaluation.benchmarks.long_text import LongText
from poslab.evaluation.benchmarks.subjects import Subject
from poslab.evaluation.benchmarks.tasks import Benchmark, ItemMetric, quieten_harness
from poslab.evaluation.command import now_and_then
from poslab.evaluation.settings import Progress, at_once
from poslab.experiments.bench.plan import BenchRequest, benchmarks_of
from poslab.experiments.bench.report import OWNER, Measured, write_scores
from poslab.experiments.jobs import one_at_a_time
from poslab.experiments.report.write import print_table
from poslab.experiments.storage import claim, open_output
from poslab.io.terminal import HarmlessConsole
from poslab.report.text import roughly
from poslab.runs.processes import disk_errors


def run_bench(subjects: Sequence[Subject], request: BenchRequest) -> None:
    """Measure models on tasks, and write and print their results; the same command resumes after an interruption.

    Raises:
        ValueError: for an unknown task, a length that a task needs or that is too short, or models whose tokenizers
            differ, before anything is measured.
    """
    quieten_harness()
    console = HarmlessConsole()
    names = [subject.name for subject in subjects]
    if request.baseline is not None and request.baseline not in names:
        raise ValueError(
            f"baseline must be one of {', '.join(names)}, got {request.baseline}{nearest(request.baseline, names)}"
        )
    status = console.status("making prompts")
    announce = status.update if console.is_terminal else now_and_then(partial(console.print, soft_wrap=True))
    with status:
        benchmarks = list(benchmarks_of(subjects, request))
        if request.dry_run:
            print_table(console, "time to go", _times(subjects, benchmarks, announce))
            console.print("Measured by the first item of each task under each encoding.")
            return
    output = Path(request.output or f"outputs/{datetime.now():%Y-%m-%d_%H-%M-%S}_bench")
    open_output(output)  # after mistakes, which leave nothing
    with disk_errors(output), one_at_a_time(output, wait=False):
        claim(output, OWNER, "runs")
        with status:
            measured = {subject: measure(subject, benchmarks, announce) for subject in subjects}
        require_metrics(benchmarks, measured)
        write_scores(benchmarks, measured, request, output, console)


def measure(
    subject: Subject, benchmarks: Sequence[Benchmark], announce: Callable[[str], None]
) -> list[list[ItemMetric] | None]:
    """Return the metrics of a model on each benchmark; None where its positions end before."""
    folder = default_cache() / "benchmarks"
    kept = cache.key({"model": subject.identity, "tasks": [benchmark.identity for benchmark in benchmarks]})
    progress = Progress(announce, folder / kept)
    progress.begin(f"{subject.name}, seed {subject.seed}", sum(benchmark.work for benchmark in benchmarks))
    measured: list[list[ItemMetric] | None] = []
    for benchmark in benchmarks:
        if _is_beyond(benchmark, subject):
            measured.append(None)
            continue
        lm = subject.answering(benchmark.length or subject.training_length, folder)
        measured.append(benchmark.measure(lm, progress.step))
    if subject.untrained:
        learns = f"{subject.name} learns {subject.untrained:,} numbers, which no training has set"
        print(f"warning: {learns}: its results belong to an untrained encoding", file=sys.stderr)
    subject.close()
    return measured


def require_metrics(benchmarks: Sequence[Benchmark], measured: Measured) -> None:
    """Raise ValueError if no model has a metric of any task."""
    every = [of_task for of_model in measured.values() for of_task in of_model]
    if any(every):
        return
    if all(of_task is None for of_task in every):
        shortest = min(benchmark.length or 0 for benchmark in benchmarks)
        raise ValueError(f"lengths must be shorter: the positions of every encoding end before {shortest:,} tokens")
    raise ValueError("tasks must have a metric that is a mean over its items, and these have none")


def _times(
    subjects: Sequence[Subject], benchmarks: Sequence[Benchmark], announce: Callable[[str], None]
) -> pd.DataFrame:
    """Return how long loading the models and each benchmark take, by its first item under each encoding."""
    loading, seconds, seeds = 0.0, [0.0] * len(benchmarks), Counter(subject.name for subject in subjects)
    for subject in {subject.name: subject for subject in reversed(subjects)}.values():
        began = time.monotonic()
        numbers = [number for number, benchmark in enumerate(benchmarks) if not _is_beyond(benchmark, subject)]
        loading += seeds[subject.name] * (time.monotonic() - began)  # since the positions of a model are in it
        with tempfile.TemporaryDirectory() as answers:
            asked = [benchmarks[number] for number in numbers if not isinstance(benchmarks[number], LongText)]
            if asked:  # once without a measurement, for what only the first time takes
                _seconds(subject, asked[0], Path(answers) / "first")
            for number in numbers:
                announce(f"{subject.name}: {benchmarks[number].label}")
                seconds[number] += seeds[subject.name] * _seconds(subject, benchmarks[number], Path(answers))
        subject.close()
    models = len(subjects)
    rows: list[tuple[Any, ...]] = [("loading", None, None, models, loading)]
    rows += [(b.name, b.length, b.count, models, taken) for b, taken in zip(benchmarks, seconds, strict=True)]
    rows.append(("all", None, sum(benchmark.count for benchmark in benchmarks), models, loading + sum(seconds)))
    frame = pd.DataFrame(rows, columns=["task", "length", "items", "models", "time"])
    return frame.assign(time=frame["time"].map(roughly))


def _seconds(subject: Subject, benchmark: Benchmark, answers: Path) -> float:
    """Return how long a benchmark takes, by its first item: asked, and again for the time that no answer needs."""
    lm, first = subject.answering(benchmark.length or subject.training_length, answers), benchmark.first_item()
    times = []
    for _ in range(2):
        began = time.monotonic()
        first.measure(lm, at_once)
        times.append(time.monotonic() - began)
    fixed = 0.0 if isinstance(benchmark, LongText) else min(times)  # its losses are not kept among answers
    return fixed + (times[0] - fixed) * benchmark.work / first.work


def _is_beyond(benchmark: Benchmark, subject: Subject) -> bool:
    """Return whether the positions of a model end before the prompts of a benchmark."""
    return subject.end is not None and (benchmark.length or subject.training_length) > subject.end
