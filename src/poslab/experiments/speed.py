"""Speed and memory of trained models at each length of a test, measured in one run on one machine.

Encodings take turns, so that any other load of the machine affects all of them, and the fastest turn of each counts,
since other programs can only slow one down. On a processor a single thread reads, timed by the processor's time that it
gets: threads that wait for one another are hundreds of times slower where other programs run beside.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from poslab.data.run_data import RunData
from poslab.evaluation.evaluated_run import on_device
from poslab.evaluation.opening import trained_data
from poslab.evaluation.peak_memory import peak_bytes
from poslab.experiments.cell_run import machine_in_words
from poslab.experiments.costs import CaseSpeeds, ReadingCost, keep_speeds, kept_speeds
from poslab.experiments.results import Results
from poslab.models import Model
from poslab.runs.checkpoint import load_checkpoint
from poslab.runs.directory import RunDirectory
from poslab.runs.loading import device_named, load
from poslab.runs.recipe import Recipe, recipe_of
from poslab.runs.trainer_settings import autocast, environment, precision_of
from poslab.tasks.task import device_of
from poslab.training.duration import threads_of_training

ROUNDS, MIN_ROUNDS = 9, 3
"""Turns of each encoding at a length; fewer where they take longer than `LONGEST`."""

SHORTEST, LONGEST = 0.02, 20.0
"""Least seconds of a turn, in which short passes are repeated, and of all turns at a length beyond the fewest."""


def with_kept_speeds(results: Results) -> Results:
    """Return results with the speeds of their runs that the directory of the comparison keeps."""
    kept = {}
    for case, speeds in kept_speeds(Path(results.comparison.output)).items():
        if case in results.comparison.cases:
            paths = {(name, str(run.path)) for name, run in _runs(results, case)}
            if paths.issuperset(speeds.runs.items()):
                kept[case] = speeds
    return replace(results, speeds=kept)


def with_speeds(results: Results, console: Console) -> Results:
    """Return results with the speeds of their runs, measured where they are not kept, or are of another machine.

    They are those of the first finished seed of each encoding whose weights are there. The directory of the comparison
    keeps those of a case once they are complete. A case that cannot be timed has none.
    """
    with threads_of_training(1):
        for case in results.comparison.cases:
            if len(_first_runs(results, case)) < 2:
                continue
            try:
                _keep(results, case, console)
            except (ValueError, torch.OutOfMemoryError) as error:
                console.print(f"{case} cannot be timed: {error}", soft_wrap=True)
    return with_kept_speeds(results)


def _keep(results: Results, case: str, console: Console) -> None:
    """Measure the speeds of a case, unless they are kept."""
    output, runs = Path(results.comparison.output), _first_runs(results, case)
    here = environment(recipe_of(next(iter(runs.values()))).trainer)
    versions = {name: here[name] for name in ("python", "packages", "commit")}
    lengths, kept = list(results.lengths(case)), kept_speeds(output)
    wanted = CaseSpeeds(machine_in_words(here), versions, results.comparison.baseline, _paths(runs), lengths, [])
    if case in kept and replace(kept[case], costs=[], versions=versions) == wanted:
        return
    console.print(f"timing {case} at {len(lengths)} length{'s' if len(lengths) > 1 else ''}")
    keep_speeds(output, {**kept, case: replace(wanted, costs=_costs(runs, lengths, wanted.baseline))})


def _paths(runs: Mapping[str, RunDirectory]) -> dict[str, str]:
    return {name: str(run.path) for name, run in runs.items()}


def _runs(results: Results, case: str) -> Iterator[tuple[str, RunDirectory]]:
    """Yield the finished runs of a case on this disk that did not diverge, each with its encoding."""
    for run in results.runs_of_case(case):
        if run.directory and not run.diverged:
            with contextlib.suppress(ValueError):  # it is on another disk, or damaged
                yield run.encoding, RunDirectory.of(run.directory, tuple(results.comparison.trust))


def _first_runs(results: Results, case: str) -> dict[str, RunDirectory]:
    """Return the first of these runs of each encoding whose weights are there."""
    found: dict[str, RunDirectory] = {}
    for name, run in _runs(results, case):
        if run.best_checkpoint.is_file():
            found.setdefault(name, run)
    return found


def _costs(runs: Mapping[str, RunDirectory], lengths: Sequence[int], baseline: str) -> list[ReadingCost]:
    """Measure the runs of a case, whose models are all held at once."""
    first = next(iter(runs.values()))
    recipe = recipe_of(first)
    device = device_named("cpu" if recipe.trainer.accelerator == "cpu" else "auto")
    models = {name: load(run.path, device, trust=run.trust) for name, run in runs.items()}
    data = trained_data(first, recipe, load_checkpoint(first.best_checkpoint))
    data.connect(recipe.task.of(data), None)  # the same items under every encoding
    with torch.no_grad(), autocast(precision_of(first), device):
        return [cost for length in lengths for cost in _at(length, models, recipe, data, baseline)]


def _at(length: int, models: Mapping[str, Model], recipe: Recipe, data: RunData, baseline: str) -> list[ReadingCost]:
    """Measure the models that have positions for the longest item of a length."""
    items, task = data.held_out("test", length), recipe.task.of(data)
    if not len(items.num_tokens):
        return []
    number = int(items.num_tokens.argmax())
    tokens = int(items.num_tokens[number])
    reading: dict[str, Callable[[], object]] = {}
    held: dict[str, int] = {}
    for name, model in models.items():
        if model.max_length is None or tokens <= model.max_length:
            device = device_of(model)
            batch = on_device(items.__getitems__([number]), device)
            reading[name] = partial(task.logits, model, batch)
            held[name] = _weights(model) + peak_bytes(reading[name], device.type == "cuda")
    fastest = _fastest(reading)  # after the first pass of each, which is slower
    beside = fastest.get(baseline)
    return [
        ReadingCost(name, length, tokens, tokens / own, None if beside is None else beside / own, held[name] / 1e6)
        for name, own in fastest.items()
    ]


def _fastest(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the seconds of each call in its fastest turn; in every other round they go in the opposite order."""
    repeats = {name: math.ceil(SHORTEST / _seconds(call, 1)) for name, call in calls.items()}
    took = dict.fromkeys(calls, math.inf)
    ends = time.perf_counter() + LONGEST
    for turn in range(ROUNDS):
        if turn >= MIN_ROUNDS and time.perf_counter() > ends:
            break
        for name in list(calls) if turn % 2 else reversed(list(calls)):
            took[name] = min(took[name], _seconds(calls[name], repeats[name]))
    return took


def _seconds(call: Callable[[], object], repeats: int) -> float:
    """Return the mean seconds of a call."""
    has_gpu = torch.cuda.is_available()
    clock = time.perf_counter if has_gpu else time.thread_time
    if has_gpu:
        torch.cuda.synchronize()
    began = clock()
    for _ in range(repeats):
        call()
    if has_gpu:
        torch.cuda.synchronize()
    return max(clock() - began, 1e-9) / repeats


def _weights(model: Model) -> int:
    """Return the bytes of the weights of a model."""
    return sum(one.numel() * one.element_size() for one in (*model.parameters(), *model.buffers()))
