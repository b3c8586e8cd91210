"""Estimated durations of runs that have not been trained, from a few steps of each encoding on each case."""

from __future__ import annotations

import os
import time

from poslab.data.run_data import RunData
from poslab.runs.recipe import Recipe
from poslab.training.components import task_and_model_of

STEPS = 5
"""Most steps that are timed; the estimate follows from the fastest, since other programs may run beside."""

LONGEST_STEP, LONGEST = 0.2, 0.5
"""Seconds of a step from which on it has enough rows, and of all steps that are timed."""

SECONDS_BESIDE_STEPS = 4.0
"""Estimated seconds of a run for its start, its validations and its test, beside its steps."""


def seconds_of_run(recipe: Recipe, data: RunData) -> float:
    """Return the estimated seconds of a run on the processor of this machine, from steps on validation data.

    The recipe is that of the run, and the data that of the recipe, set up. Steps have as few rows as take long enough
    to be timed.
    """
    task, model = task_and_model_of(recipe, data)
    recipe.adapt.apply(model)
    length = min(data.lengths_of("validation"), key=lambda n: abs(n - data.longest_trained))
    items, all_rows = data.held_out("validation", length), recipe.source.batch_size

    def step(rows: int) -> float:
        began = time.perf_counter()
        task.loss(model, items.__getitems__(list(range(rows)))).loss.backward()
        return time.perf_counter() - began

    rows = 1
    step(rows)  # the first one is slower
    while rows < all_rows and min(step(rows), step(rows)) < LONGEST_STEP:
        rows = min(2 * rows, all_rows)
    ends, took = time.perf_counter() + LONGEST, [step(rows)]
    while len(took) < STEPS and time.perf_counter() < ends:
        took.append(step(rows))
    return SECONDS_BESIDE_STEPS + recipe.trainer.max_steps * min(took) * all_rows / rows


def roughly(seconds: float) -> str:
    """Return a duration in words, as exactly as an estimate is: `about 3 h`."""
    units = {"days": 86400, "h": 3600, "min": 60}
    unit, size = next(((unit, size) for unit, size in units.items() if seconds >= 1.5 * size), ("s", 1))
    return f"about {max(10, round(seconds, -1)) if size == 1 else seconds / size:.0f} {unit}"


def is_busy() -> bool:
    """Return whether other programs keep this machine busy, so that steps take longer than they will."""
    return os.getloadavg()[0] > (os.cpu_count() or 1)
