"""Table of the jobs of `-m`: a row for each encoding with what differs, a column for each length of the test."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table

from poslab.cli.jobs import recorded_jobs
from poslab.configuration.labels import labels
from poslab.io.files import write_atomically
from poslab.io.terminal import HarmlessConsole, one_line
from poslab.report.text_tables import in_markdown, latex, markdown
from poslab.runs.directory import RunDirectory

ALL = "all"
"""Column of the metric on the whole test."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run among several.

    Args:
        label: its encoding, and the keys in which the runs differ, the seed aside.
        seed: of the run.
        path: of its directory.
        metric: first metric of its task.
        decimals: of the metric where it is shown.
        values: metric of the test by column: the lengths, and `ALL`.
    """

    label: str
    seed: int
    path: Path
    metric: str
    decimals: int
    values: Mapping[str, float]


def show_jobs(directory: Path) -> None:
    """Print the results of all jobs in a directory, and write them beside the runs: table.csv, table.md, table.tex.

    The CSV file has a row for each run, with all digits; elsewhere runs that differ in the seed alone are one row.
    """
    if any(os.environ.get(name, "0") != "0" for name in ("RANK", "SLURM_PROCID")):
        return  # one of several processes that run the same jobs together
    records = recorded_jobs(directory)
    runs, failed = finished_runs(records), failures(records)
    console = HarmlessConsole()
    if runs:
        columns = _columns(runs)
        frame = averaged(runs, columns)
        title = _title(runs, columns, frame)
        console.print(f"\n{title}", soft_wrap=True)
        for lines in in_blocks(frame, console.width):
            console.print(lines)
        for name, text in {
            "table.csv": each_run(runs, columns).to_csv(index=False, lineterminator="\n"),
            "table.md": "\n\n".join([in_markdown(title), markdown(frame), *map(in_markdown, failed)]) + "\n",
            "table.tex": latex(frame, f"{title}."),
        }.items():
            write_atomically(directory / name, text)
    for sentence in failed:
        console.print(sentence, soft_wrap=True)
    if runs:
        console.print(f"written: {directory}/table.csv, table.md, table.tex", soft_wrap=True)


def finished_runs(records: Sequence[Mapping[str, Any]]) -> list[FinishedRun]:
    """Return the finished runs among jobs."""
    known = [record for record in records if "config" in record]
    names = labels([{**record["config"], "seed": 0} for record in known])
    return [_finished(record, name) for record, name in zip(known, names, strict=True) if "run" in record]


def _finished(record: Mapping[str, Any], name: str) -> FinishedRun:
    path, metric = Path(record["run"]), record["metric"]
    tags = RunDirectory(path).metrics()
    values = {tag.partition("@")[2]: value for tag, value in tags.items() if tag.startswith(f"test/{metric}@")}
    if record["aggregate_lengths"]:
        values = (values if len(values) > 1 else {}) | {ALL: tags[f"test/{metric}"]}
    return FinishedRun(name, record["config"]["seed"], path, metric, record["decimals"], values)


def failures(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence on each job without a finished run."""
    names = iter(labels([record["config"] for record in records if "config" in record]))
    named = [(next(names) if "config" in one else " ".join(one.get("overrides", [])), one) for one in records]
    return [
        f"failed: {name}: {one_line(record.get('error', 'its process ended'))}"
        for name, record in named
        if "run" not in record
    ]


def _columns(runs: Sequence[FinishedRun]) -> list[str]:
    """Return the lengths of all runs, ascending, and `ALL` if one has it."""
    found = {name for run in runs for name in run.values}
    return [*sorted(found - {ALL}, key=int), *(found & {ALL})]


def _title(runs: Sequence[FinishedRun], columns: Sequence[str], frame: pd.DataFrame) -> str:
    metrics = " or ".join(dict.fromkeys(run.metric.replace("_", " ") for run in runs))
    title = f"{metrics} of the test" + (", by length" if len(columns) > 1 else "")
    of = "the runs" if "runs" in frame else f"{len(runs) // len(frame)} runs"
    return title if len(frame) == len(runs) else f"{title}: mean ± standard deviation of {of}"


def each_run(runs: Sequence[FinishedRun], columns: Sequence[str]) -> pd.DataFrame:
    """Return a row for each run, with numbers."""
    first = [{"encoding": run.label, "seed": run.seed, "run": str(run.path), "metric": run.metric} for run in runs]
    return pd.DataFrame([row | {c: run.values.get(c) for c in columns} for row, run in zip(first, runs, strict=True)])


def averaged(runs: Sequence[FinishedRun], columns: Sequence[str]) -> pd.DataFrame:
    """Return a row of texts for each label: the mean of its runs, with a standard deviation if there are several.

    Metrics and numbers of runs have a column where they differ.
    """
    groups: dict[tuple[str, str], list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault((run.label, run.metric), []).append(run)
    frame = pd.DataFrame(
        {"encoding": name, "metric": metric.replace("_", " "), "runs": str(len(own))}
        | {column: _cell([run.values.get(column) for run in own], own[0].decimals) for column in columns}
        for (name, metric), own in groups.items()
    )
    return frame.drop(columns=[name for name in ("metric", "runs") if frame[name].nunique() == 1])


def _cell(values: Sequence[float | None], decimals: int) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "–"
    mean = f"{statistics.fmean(numbers):.{decimals}f}"
    return mean if len(numbers) < 2 else f"{mean} ±{statistics.stdev(numbers):.{decimals}f}"


def in_blocks(frame: pd.DataFrame, width: int) -> Iterator[Table]:
    """Yield tables of at most this width, whose labels may take several lines, with about as many columns each."""
    texts = [name for name in ("encoding", "metric") if name in frame]
    fixed = [*texts, *(["runs"] if "runs" in frame else [])]
    lengths = [str(name) for name in frame if name not in fixed]
    words = {
        name: [word for cell in [name, *frame[name]] for word in (cell.split() if name in texts else [cell])]
        for name in frame
    }
    sizes = {name: max(map(len, words[name])) + 3 for name in frame}
    most = max(1, (width - 2 - sum(sizes[name] for name in fixed)) // max(sizes[name] for name in lengths))
    blocks = -(-len(lengths) // most)
    for number in range(blocks):
        block = lengths[number * len(lengths) // blocks : (number + 1) * len(lengths) // blocks]
        table = Table(box=box.SIMPLE_HEAD)
        for name in (*fixed, *block):
            shown = f"{int(name):,}" if name.isdigit() else name
            table.add_column(shown, justify="left" if name in texts else "right", no_wrap=name not in texts)
        for row in frame[[*fixed, *block]].itertuples(index=False):
            table.add_row(*row)
        yield table
