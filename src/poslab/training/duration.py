"""Estimated durations of runs that have not been trained, from a few steps of each encoding on each case."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

import torch

from poslab.data.run_data import RunData
from poslab.data.source import HELD_OUT
from poslab.runs.processes import set_up_cpu
from poslab.runs.recipe import Recipe
from poslab.runs.trainer_settings import autocast
from poslab.training.components import task_and_model_of

STEPS = 5
"""Most steps that are timed; the estimate follows from the fastest, since other programs may run at the same time."""

MAX_STEP_S, LONGEST = 0.2, 0.5
"""Seconds of a step from which on it has enough rows, and of all steps that are timed."""

SECONDS_OF_WORKER = 6.0  # estimated seconds until a worker takes its first run
SECONDS_OF_START = 3.0  # estimated seconds of a run for its start and its files

READINGS_OF_TEST = 2
"""Times that the test of a run is read: at the end of the run, and item by item for the comparison."""


def seconds_of_run(recipe: Recipe, data: RunData, threads: int) -> float:
    """Return the estimated seconds of a run on the processor of this machine, from steps on validation data.

    Steps have as few rows as take long enough to be timed. Validations and tests count by their tokens: those that a
    test writes count as if they were read. A single thread is timed by the processor's time that it gets, which other
    programs do not change. Several threads wait for one another, and other programs for each: on a busy machine they
    count as no slower than one.
    """
    with threads_of_training(threads):
        seconds = _seconds(recipe, data, time.process_time if threads == 1 else time.perf_counter)
    if threads > 1 and is_busy():
        with threads_of_training(1):
            seconds = min(seconds, _seconds(recipe, data, time.process_time))
    return seconds


@contextlib.contextmanager
def threads_of_training(threads: int) -> Iterator[None]:
    """Give PyTorch that many threads for a while, and set up the CPU from then on as training does."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    set_up_cpu()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seconds(recipe: Recipe, data: RunData, clock: Callable[[], float]) -> float:
    task, model = task_and_model_of(recipe, data)
    recipe.adapt.apply(model)
    precision = recipe.trainer.resolved_precision
    if precision == "bf16-true":
        model.to(torch.bfloat16)
    length = min(data.lengths_of("validation"), key=lambda n: abs(n - data.longest_trained))
    items, all_rows = data.held_out("validation", length), recipe.source.batch_size

    def step(rows: int) -> float:
        began = clock()
        with autocast(precision, torch.device("cpu")):
            loss = task.loss(model, items.__getitems__(list(range(rows)))).loss
        loss.backward()
        return clock() - began

    def read(numbers: list[int]) -> float:
        began = clock()
        with torch.no_grad(), autocast(precision, torch.device("cpu")):
            task.observe(model.eval(), items.__getitems__(numbers), "validation")
        return clock() - began

    rows = 1
    step(rows)  # the first one is slower
    while rows < all_rows and min(step(rows), step(rows)) < MAX_STEP_S:
        rows = min(2 * rows, all_rows)
    ends, took = clock() + LONGEST, [step(rows)]
    while len(took) < STEPS and clock() < ends:
        took.append(step(rows))
    steps, tokens = recipe.trainer.max_steps, {split: _tokens(data, split) for split in HELD_OUT}
    to_read = min(recipe.trainer.validations, steps) * tokens["validation"] + READINGS_OF_TEST * tokens["test"]
    numbers = list(range(min(rows, len(items.num_tokens))))
    reading = min(read(numbers), read(numbers)) * to_read / int(items.num_tokens[numbers].sum())
    return SECONDS_OF_START + steps * min(took) * all_rows / rows + reading


def _tokens(data: RunData, split: str) -> int:
    """Return the tokens of a held-out split, at all of its lengths."""
    return sum(int(data.held_out(split, length).num_tokens.sum()) for length in data.lengths_of(split))


def is_busy() -> bool:
    """Return whether other programs keep this machine busy, so that steps take longer than they need."""
    return os.getloadavg()[0] > (os.cpu_count() or 1)
