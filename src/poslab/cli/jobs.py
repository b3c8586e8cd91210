"""Jobs of `-m`: their records, which other processes may write, and the table that the command ends with."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from poslab.io.files import read_json, write_atomically

if TYPE_CHECKING:
    import pandas as pd

RECORDS = ".jobs"
"""Folder of the records, in the directory of all jobs, while these run."""

DIRECTORIES: list[Path] = []
"""Directory of the jobs that this process has started; empty if it has started a single run."""

ALL = "all"
"""Column of the metric on the whole test."""


class RecordMultirunDir(Callback):
    """A callback of Hydra's that notes the directory of all jobs, in the process that starts them."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        DIRECTORIES[:] = [Path(config.hydra.sweep.dir)]
        shutil.rmtree(DIRECTORIES[0] / RECORDS, ignore_errors=True)  # of a command that was killed
        (DIRECTORIES[0] / RECORDS).mkdir(parents=True)


def recording(arguments: Sequence[str]) -> list[str]:
    """Return the words that make Hydra call `RecordMultirunDir`; none for a single run."""
    DIRECTORIES.clear()
    known, _ = get_args_parser().parse_known_intermixed_args(list(arguments))
    target = f"{RecordMultirunDir.__module__}.{RecordMultirunDir.__name__}"
    return [f"+hydra.callbacks.record._target_={target}"] if known.multirun else []


class JobRecord:
    """Record of the running job, which is on the disk at once; a single run has none."""

    def __init__(self) -> None:
        hydra = HydraConfig.get()
        self._file = None
        if not OmegaConf.is_missing(hydra.job, "num") and (folder := Path(hydra.sweep.dir) / RECORDS).is_dir():
            self._file = folder / f"{hydra.job.num}.json"
        self._facts: dict[str, Any] = {}

    def add(self, **facts: Any) -> None:
        """Add plain data: `overrides`, `config`, what a command returns, and `error`."""
        self._facts |= facts
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk, which the job itself reports
                write_atomically(self._file, json.dumps(self._facts))


@dataclass(frozen=True)
class FinishedRun:
    """A finished run among several.

    Args:
        label: its encoding, and the keys in which the runs differ, except the seed.
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
    """Print the results of all jobs in a directory, and write them next to the runs: table.csv, table.md, table.tex.

    The CSV file has a row for each run, with all digits; elsewhere runs that differ only in the seed are one row.
    """
    if any(os.environ.get(name, "0") != "0" for name in ("RANK", "SLURM_PROCID")):
        return  # one of several processes that run the same jobs together
    from poslab.io.terminal import HarmlessConsole
    from poslab.report.text import in_markdown, latex, markdown

    folder = directory / RECORDS
    records = [read_json(file) for file in sorted(folder.glob("*.json"), key=lambda file: int(file.stem))]
    shutil.rmtree(folder, ignore_errors=True)
    runs, failed = finished_runs(records), failures(records)
    console = HarmlessConsole()
    if runs:
        frame = averaged(runs)
        title = _title(runs, frame)
        console.print(f"\n{title}\n", soft_wrap=True)
        lengths = {name: f"{int(name):,}" for name in frame if name.isdigit()}
        shown = frame.rename(columns=lengths).set_index("encoding").rename_axis(index=None, columns="encoding")
        shown = shown.to_string(line_width=console.width, max_colwidth=None)
        console.print(shown, soft_wrap=True)
        for name, text in {
            "table.csv": each_run(runs).to_csv(index=False, lineterminator="\n"),
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
    from poslab.configuration.labels import labels
    from poslab.runs.directory import RunDirectory

    known = [record for record in records if "config" in record]
    names = labels([{**record["config"], "seed": 0} for record in known])
    runs = []
    for record, name in zip(known, names, strict=True):
        if "run" in record:
            path, metric = Path(record["run"]), record["metric"]
            tags = RunDirectory(path).metrics()
            values = {tag.partition("@")[2]: value for tag, value in tags.items() if tag.startswith(f"test/{metric}@")}
            if record["aggregate_lengths"]:
                values = (values if len(values) > 1 else {}) | {ALL: tags[f"test/{metric}"]}
            runs.append(FinishedRun(name, record["config"]["seed"], path, metric, record["decimals"], values))
    return runs


def failures(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence on each job without a finished run."""
    from poslab.configuration.labels import labels
    from poslab.io.terminal import one_line

    names = iter(labels([record["config"] for record in records if "config" in record]))
    named = [(next(names) if "config" in job else " ".join(job.get("overrides", [])), job) for job in records]
    return [
        f"failed: {name}: {one_line(job.get('error', 'its process ended'))}" for name, job in named if "run" not in job
    ]


def _columns(runs: Sequence[FinishedRun]) -> list[str]:
    """Return the lengths of all runs, ascending, and `ALL` if one has it."""
    names = {name for run in runs for name in run.values}
    return [*sorted(names - {ALL}, key=int), *(names & {ALL})]


def _title(runs: Sequence[FinishedRun], frame: pd.DataFrame) -> str:
    metrics = " or ".join(dict.fromkeys(run.metric.replace("_", " ") for run in runs))
    title = f"{metrics} of the test" + (", by length" if len(_columns(runs)) > 1 else "")
    of = "the runs" if "runs" in frame else f"{len(runs) // len(frame)} runs"
    return title if len(frame) == len(runs) else f"{title}: mean ± standard deviation of {of}"


def each_run(runs: Sequence[FinishedRun]) -> pd.DataFrame:
    """Return a row for each run, with numbers."""
    import pandas as pd

    columns = _columns(runs)
    first = [{"encoding": run.label, "seed": run.seed, "run": str(run.path), "metric": run.metric} for run in runs]
    return pd.DataFrame([row | {c: run.values.get(c) for c in columns} for row, run in zip(first, runs, strict=True)])


def averaged(runs: Sequence[FinishedRun]) -> pd.DataFrame:
    """Return a row of texts for each label: the mean of its runs, with a standard deviation if there are several.

    Metrics and numbers of runs have a column where they differ.
    """
    import pandas as pd

    groups: dict[tuple[str, str], list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault((run.label, run.metric), []).append(run)
    frame = pd.DataFrame(
        {"encoding": label, "metric": metric.replace("_", " "), "runs": str(len(group))}
        | {column: _cell([run.values.get(column) for run in group], group[0].decimals) for column in _columns(runs)}
        for (label, metric), group in groups.items()
    )
    return frame.drop(columns=[name for name in ("metric", "runs") if frame[name].nunique() == 1])


def _cell(values: Sequence[float | None], decimals: int) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "–"
    mean = f"{statistics.fmean(numbers):.{decimals}f}"
    return mean if len(numbers) < 2 else f"{mean} ±{statistics.stdev(numbers):.{decimals}f}"
