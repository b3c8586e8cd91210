"""Estimated durations of runs that have not been trained, from a few steps of each case."""

from __future__ import annotations

import time

from poslab.data.run_data import RunData
from poslab.runs.recipe import Recipe
from poslab.training.components import task_and_model_of

STEPS = 3
"""Steps that are timed, after a first one."""

SECONDS_BESIDE_STEPS = 4.0
"""Estimated seconds of a run for its start, its validations and its test, beside its steps."""


def seconds_of_run(recipe: Recipe, data: RunData) -> float:
    """Return the estimated seconds of a run on the processor of this machine, from steps on validation data.

    The recipe is that of the run, and the data that of the recipe, set up.
    """
    task, model = task_and_model_of(recipe, data)
    data.connect(task, model.max_length)
    length = min(data.lengths_of("validation"), key=lambda n: abs(n - data.longest_trained))
    batch = data.held_out("validation", length).__getitems__(list(range(recipe.source.batch_size)))
    began = 0.0
    for step in range(1 + STEPS):
        if step == 1:
            began = time.perf_counter()
        task.loss(model, batch).loss.backward()
    steps = recipe.trainer.max_steps * (time.perf_counter() - began) / STEPS
    return SECONDS_BESIDE_STEPS + steps
