"""Speed and memory of trained models at each length of a test, measured in one process on one machine.

Encodings alternate, so that any other load of the machine affects all of them, and the fastest pass of each counts,
since other programs can only slow one down. On a processor a single thread reads, timed by the processor's time that it
gets: threads that wait for one another are hundreds of times slower where other programs run.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark.utils.timer import Timer, timer

from poslab.data.run_data import RunData
from poslab.evaluation.evaluated_run import on_device
from poslab.evaluation.opening import trained_data
from poslab.experiments.cell_run import machine_in_words
from poslab.experiments.results import Results
from poslab.experiments.tables import RunKey, read_runs
from poslab.models import Model
from poslab.runs.checkpoint import load_checkpoint
from poslab.runs.directory import RunDirectory
from poslab.runs.loading import device_named, load
from poslab.runs.recipe import Recipe, recipe_of
from poslab.runs.trainer_settings import autocast, environment, precision_of
from poslab.tasks.task import device_of
from poslab.training.duration import threads_of_training

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise the profiler prints two lines a call

ROUNDS, MIN_ROUNDS = 9, 3  # turns of each encoding at a length; fewer where they take longer than `MAX_SECONDS`

TURN_SECONDS, MAX_SECONDS = 0.02, 20.0
"""Seconds of a turn, in which short passes are repeated, and of all turns at a length beyond the fewest."""

Reading = dict[str, float]  # measurements of a run by tag, such as `tokens_per_second@1024`


def with_kept_speeds(results: Results) -> Results:
    """Return results with the speeds of their runs in the tables that the directory of the comparison has."""
    try:
        kept = {run.directory: run for run in read_runs(Path(results.comparison.output)) if run.reading}
    except ValueError:  # missing, or damaged
        return results
    rows = [
        run
        if run.is_trial or (timed := kept.get(run.directory)) is None or timed.lengths != list(run.lengths)
        else replace(run, reading=timed.reading, reading_machine=timed.reading_machine)
        for run in results.rows
    ]
    return replace(results, rows=rows)


def with_speeds(results: Results, console: Console) -> Results:
    """Return results with the speeds of their runs, measured where they are not kept, or are of another machine.

    The first finished seed of each encoding whose weights are there is timed. A case that cannot be timed has none.
    """
    results = with_kept_speeds(results)
    with threads_of_training(1):
        for case in results.comparison.cases:
            if len(runs := _first_runs(results, case)) < 2:
                continue
            machine = machine_in_words(environment(recipe_of(next(iter(runs.values()))).trainer))
            if {(run.key, run.reading_machine) for run in results.timed(case).values()} == {
                (key, machine) for key in runs
            }:
                continue
            console.print(f"timing {case}")
            measured: dict[RunKey, Reading] = {}
            try:
                measured = _measured(runs, results.lengths(case))
            except (ValueError, torch.OutOfMemoryError) as error:
                console.print(f"{case} cannot be timed: {error}", soft_wrap=True)
            rows = [
                replace(run, reading=measured.get(run.key, {}), reading_machine=machine if run.key in measured else "")
                if run.case == case and not run.is_trial
                else run
                for run in results.rows
            ]
            results = replace(results, rows=rows)
    return results


def _first_runs(results: Results, case: str) -> dict[RunKey, RunDirectory]:
    """Return the first finished run of each encoding, on this disk, whose weights are there."""
    first: dict[str, tuple[RunKey, RunDirectory]] = {}
    for run in results.runs_of_case(case):
        if run.directory and not run.diverged and run.encoding not in first:
            with contextlib.suppress(ValueError):  # it is on another disk, or damaged
                directory = RunDirectory.of(run.directory, tuple(results.comparison.trust))
                if directory.best_checkpoint.is_file():
                    first[run.encoding] = run.key, directory
    return dict(first.values())


def _measured(runs: Mapping[RunKey, RunDirectory], lengths: list[int]) -> dict[RunKey, Reading]:
    """Measure runs of a case, whose models are all in memory at once."""
    first = next(iter(runs.values()))
    recipe = recipe_of(first)
    device = device_named("cpu" if recipe.trainer.accelerator == "cpu" else "auto")
    models = {key: load(run.path, device, trust=run.trust) for key, run in runs.items()}
    data = trained_data(first, recipe, load_checkpoint(first.best_checkpoint))
    data.connect(recipe.task.of(data), None)  # the same items under every encoding
    readings: dict[RunKey, Reading] = {key: {} for key in runs}
    with torch.no_grad(), autocast(precision_of(first), device):
        for length in lengths:
            for key, reading in _at(length, models, recipe, data):
                readings[key] |= {f"{name}@{length}": value for name, value in reading.items()}
    return readings


def _at(length: int, models: Mapping[RunKey, Model], recipe: Recipe, data: RunData) -> Iterator[tuple[RunKey, Reading]]:
    """Measure the models that have positions for the longest item of a length."""
    items, task = data.held_out("test", length), recipe.task.of(data)
    if not len(items.num_tokens):
        return
    number = int(items.num_tokens.argmax())
    tokens = int(items.num_tokens[number])
    reading: dict[RunKey, Callable[[], object]] = {}
    held: dict[RunKey, int] = {}
    for key, model in models.items():
        if model.max_length is None or tokens <= model.max_length:
            device = device_of(model)
            reading[key] = partial(task.logits, model, on_device(items.__getitems__([number]), device))
            weights = sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))
            held[key] = weights + peak_bytes(reading[key], device.type == "cuda")
    for key, seconds in _fastest(reading).items():  # after the first pass of each, which is slower
        yield key, {"tokens": tokens, "tokens_per_second": tokens / seconds, "memory_mb": held[key] / 1e6}


def _fastest(calls: Mapping[RunKey, Callable[[], object]]) -> dict[RunKey, float]:
    """Return the seconds of each call in its fastest turn; in every other round they go in the opposite order."""
    clock = timer if torch.cuda.is_available() else time.thread_time
    timers = {key: Timer("call()", timer=clock, globals={"call": call}) for key, call in calls.items()}
    repeats = {key: math.ceil(TURN_SECONDS / max(repeated.timeit(1).mean, 1e-9)) for key, repeated in timers.items()}
    fastest = dict.fromkeys(calls, math.inf)
    ends = time.perf_counter() + MAX_SECONDS
    for turn in range(ROUNDS):
        if turn >= MIN_ROUNDS and time.perf_counter() > ends:
            break
        for key in list(calls) if turn % 2 else reversed(list(calls)):
            fastest[key] = min(fastest[key], max(timers[key].timeit(repeats[key]).mean, 1e-9))
    return fastest


def peak_bytes(call: Callable[[], object], on_gpu: bool | None = None) -> int:
    """Return the most bytes that PyTorch had allocated at once during a call, beyond the bytes before it.

    On a processor that is the sum of every allocation and release that the profiler saw: exact, but without what
    libraries allocate on their own. `on_gpu` is whether its tensors are on a GPU; None: if there is one.
    """
    if torch.cuda.is_available() if on_gpu is None else on_gpu:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
