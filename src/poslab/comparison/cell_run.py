"""Training of one cell: an ordinary run, whose test is measured item by item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial

from poslab.comparison.cells import SCORES, Cell, CellResult
from poslab.comparison.configurations import CellConfigurations
from poslab.comparison.study import ComparisonStudy, cell_of_trial
from poslab.evaluation.item_files import read_measured, write_measured
from poslab.evaluation.measure import measure
from poslab.io.reading import read_json
from poslab.pool.run import train_or_resume
from poslab.pool.source import JobLostError
from poslab.runs.directory import RunDirectory
from poslab.runs.errors import NonFiniteLossError, RunEndedEarlyError
from poslab.runs.recipe import recipe_of
from poslab.tuning.attributes import BEGAN_AFTER

AS_LOST = "given up"
"""Reason for which a run ends early: a heartbeat did not arrive, and another worker has its cell."""


def train_cell(
    study: ComparisonStudy, configurations: CellConfigurations, trial: Trial, heed: Callable[[], None]
) -> CellResult:
    """Train or resume the run of a cell, and measure its test; `heed` raises RunInterruptedError after a signal.

    A run whose loss is no longer a number is a result.

    Raises:
        JobLostError: if somebody else has ended the trial.
        RunInterruptedError: after a signal.
        Exception: any other error of a run.
    """
    cell = cell_of_trial(trial)
    run = RunDirectory(study.directory_of(trial), tuple(study.plan.comparison.trust))

    def begins(saved_steps: int) -> None:
        study.storage.set_trial_user_attr(trial._trial_id, BEGAN_AFTER, saved_steps)

    def observer(*_: object) -> str | None:
        return AS_LOST if study.current(trial).state.is_finished() else None

    try:
        metrics = train_or_resume(run, configurations.of(cell), observer, heed, begins)
    except NonFiniteLossError as error:
        return CellResult(diverged=str(error), machine=machine_of(run), start=start_of(run))
    except UpdateFinishedTrialError as error:
        raise JobLostError from error
    except RunEndedEarlyError as ended:
        raise JobLostError from ended
    scores = {} if cell.is_trial else measured(run, cell)
    return CellResult(metrics, scores, machine=machine_of(run), start=start_of(run))


def measured(run: RunDirectory, cell: Cell) -> dict[str, float]:
    """Measure the test of a finished run at the lengths of its cell, unless it has been; return all scores by tag."""
    file = run.path / SCORES
    found = read_measured(file) if file.exists() else None
    there = set() if found is None else {length for _, length in (*found.scores, *found.values)}
    wanted: list[int | None] = [*cell.lengths, *([None] if recipe_of(run).task.pools_lengths else [])]
    missing = [length for length in wanted if length not in there]
    if found is None or missing:
        new = measure(run.path, missing, trust=run.trust)
        if found is not None:
            new = replace(new, scores={**found.scores, **new.scores}, values={**found.values, **new.values})
        write_measured(new, file)
        found = new
    values = {key: one.value for key, one in found.scores.items()} | dict(found.values)
    return {metric if length is None else f"{metric}@{length}": value for (metric, length), value in values.items()}


def start_of(run: RunDirectory) -> dict[str, str | None]:
    """Return the hashes of the first batch and weights of a run; empty of a run of an earlier version."""
    return read_json(run.start_file) if run.start_file.exists() else {}


def machine_of(run: RunDirectory) -> str:
    """Return the processor and its threads, or the GPUs, that trained a run."""
    environment = read_json(run.environment_file)
    gpus = environment.get("gpus") or []
    return ", ".join(map(str, gpus)) or f"{environment.get('processor')}, {environment.get('threads')} threads"
