"""Training of one cell: an ordinary run, whose test is measured item by item."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from poslab.configuration.build import DATA
from poslab.evaluation.scores.extra_metrics import measure_extra
from poslab.evaluation.scores.items import MeasuredRun, read_measured, write_measured
from poslab.evaluation.scores.measure import measure
from poslab.experiments.cells import EXTRA_SCORES, SCORES, Cell, CellResult
from poslab.experiments.configurations import CellConfigurations
from poslab.experiments.jobs import Job, JobLostError, one_at_a_time
from poslab.experiments.metrics import of_tag, tag_of
from poslab.experiments.plan import ComparisonJobs, cell_of_key
from poslab.experiments.run import train_or_resume
from poslab.io.files import read_json
from poslab.runs.checkpoint import checkpoint_digest
from poslab.runs.directory import RunDirectory, read_with_checksum
from poslab.runs.errors import NonFiniteLossError, RunEndedEarlyError
from poslab.runs.processes import disk_errors
from poslab.runs.recipe import recipe_of


def train_cell(
    jobs: ComparisonJobs, configurations: CellConfigurations, job: Job, check_cancelled: Callable[[], None]
) -> CellResult:
    """Train or resume the run of a cell, and measure its test.

    The run that it starts from is trained again if it is not on a disk of this machine. `check_cancelled` raises
    RunInterruptedError after a signal. A run whose loss is no longer a number is a result. JobLostError is raised if
    another process has failed the job.
    """
    cell, comparison = cell_of_key(job.key), jobs.plan.comparison
    run = RunDirectory(job.directory, (*comparison.trust, DATA))  # the data of `configurations`

    def observer(*_: object) -> str | None:
        return "given up" if job.lost.is_set() else None

    def trained(cell: Cell, run: RunDirectory) -> dict[str, float]:
        earlier = None if cell.after is None else RunDirectory(Path(comparison.output) / cell.after)
        if cell.after is not None and earlier is not None and not earlier.is_finished:  # another machine trained it
            trained(jobs.cell_in(cell.after), earlier)
        return train_or_resume(run, configurations.of(cell), observer, check_cancelled)

    try:
        metrics = trained(cell, run)
    except NonFiniteLossError as error:
        return CellResult(diverged=str(error), **origin_of(run))
    except RunEndedEarlyError as error:
        raise JobLostError from error

    scores = {} if cell.is_trial else measured(run, cell, check_cancelled)
    return CellResult(metrics, scores, **origin_of(run))


def measured(run: RunDirectory, cell: Cell, check_cancelled: Callable[[], None] = lambda: None) -> dict[str, float]:
    """Measure the test of a finished run at the lengths of its cell, unless it has been; return all scores by tag.

    It is measured on the kind of device that trains the run, if this machine has one. Each length, and each further
    metric, is kept once it is measured, so that after an interruption only the rest is. What is kept counts only for
    the present best checkpoint. `check_cancelled` is called before each batch, and may raise an error to stop.

    Raises:
        ValueError: as of `measure`, or if the directory of the run cannot be written.
        DiskError: if the disk is full.
    """
    recipe, checkpoint = recipe_of(run), checkpoint_digest(run.best_checkpoint)
    device = "cpu" if recipe.trainer.accelerator == "cpu" else "auto"
    kept = _kept(run, SCORES, checkpoint)
    wanted: list[int | None] = [*cell.lengths, *([None] if recipe.task.aggregate_lengths else [])]
    missing = [length for length in wanted if kept is None or length not in kept.lengths]
    if kept is None or missing:
        keep = partial(_keep, run, SCORES)
        kept = measure(
            run.path, missing, "test", device, run.trust, known=kept, keep=keep, check_cancelled=check_cancelled
        )
    parts, extra = [kept], _kept(run, EXTRA_SCORES, checkpoint)
    extra_missing = [key for key in map(of_tag, cell.extra) if extra is None or key not in extra.scores]
    if extra_missing:
        keep = partial(_keep, run, EXTRA_SCORES)
        extra = measure_extra(run.path, extra_missing, device, run.trust, extra, keep, check_cancelled)
    if extra is not None:
        parts.append(extra)
    values = {key: item_scores.value for part in parts for key, item_scores in part.scores.items()} | dict(kept.values)
    return {tag_of(metric, length): value for (metric, length), value in values.items()}


def _kept(run: RunDirectory, file: str, checkpoint: str) -> MeasuredRun | None:
    """Return the scores of its test that a run keeps; None if they are missing, damaged or of another checkpoint."""
    try:
        kept = read_measured(run.path / file)
    except ValueError:
        return None
    return kept if (kept.checkpoint, kept.split) == (checkpoint, "test") else None


def _keep(run: RunDirectory, file: str, new: MeasuredRun) -> None:
    """Keep scores with those that another command has measured in the meantime."""
    try:
        with disk_errors(run.path), one_at_a_time(run.path):
            there = _kept(run, file, new.checkpoint)
            write_measured(new if there is None else there.joined(new), run.path / file)
    except OSError as error:
        raise ValueError(f"{run.path} cannot be written, which keeps its scores: {error.strerror}") from error


def origin_of(run: RunDirectory) -> dict[str, Any]:
    """Return the machine, first hashes and commit of a run, arguments of `CellResult`; older runs have no hashes.

    ValueError, naming the file, if one is damaged.
    """
    start = read_with_checksum(run.start_file) if run.start_file.exists() else {}
    if not all(digest is None or isinstance(digest, str) for digest in start.values()):
        raise ValueError(f"{run.start_file} must contain hashes, which are texts")
    made_by = read_json(run.environment_file)
    return {"machine": machine_in_words(made_by), "start": start, "commit": str(made_by.get("commit") or "")}


def machine_in_words(environment: Mapping[str, Any]) -> str:
    """Return the machine of an environment: the processor and its threads, or the GPUs."""
    gpus, threads = environment.get("gpus"), environment.get("threads")
    return (
        ", ".join(map(str, gpus if isinstance(gpus, list) else []))
        or f"{environment.get('processor')}, {threads} thread{'' if threads == 1 else 's'}"
    )
