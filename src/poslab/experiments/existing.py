"""Comparisons of runs that exist already."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from poslab.configuration.labels import IGNORED_KEYS, OF_THE_ENCODING, choice_name, labels
from poslab.data.run_data import RunData
from poslab.evaluation.opening import trained_data
from poslab.experiments.cell_run import measured, origin_of
from poslab.experiments.cells import CellResult
from poslab.experiments.collect import items_of_directory, row_of
from poslab.experiments.comparison import Comparison, naming
from poslab.experiments.configurations import checked_lengths
from poslab.experiments.metrics import usual_direction
from poslab.experiments.mistakes import checked
from poslab.experiments.plan import CellPlan
from poslab.experiments.results import Results
from poslab.io.terminal import HarmlessConsole
from poslab.report.text import amount, file_name
from poslab.runs.checkpoint import load_checkpoint
from poslab.runs.directory import RunDirectory
from poslab.runs.recipe import Recipe, recipe_of
from poslab.tasks.task import Task

OF_THE_TEST = ("dataset.length_multiples", "dataset.test_lengths", "dataset.sides", "dataset.test_frames")
"""Keys of the lengths of the test, of each kind of data."""

MAY_DIFFER = (*IGNORED_KEYS, "seed", "dataset.seed", *OF_THE_TEST)
"""Keys in which runs of one encoding on one case may differ: a comparison has its own seeds and lengths."""

MAX_NAME_LENGTH = 60


@dataclass(frozen=True, eq=False)
class KnownRun:
    """A finished run: its directory and its recipe."""

    run: RunDirectory
    recipe: Recipe

    @property
    def dataset(self) -> dict[str, Any]:
        """Keys of its dataset that make its case, with the task: all but the size of batches."""
        node = _without(self.recipe.config, MAY_DIFFER)["dataset"]
        return {key: value for key, value in node.items() if key != "batch_size"}

    @property
    def training(self) -> dict[str, Any]:
        """All other keys, which make its encoding."""
        node = _without(self.recipe.config, (*MAY_DIFFER, "dataset"))
        return {**node, "batch_size": self.recipe.source.batch_size}


@dataclass(frozen=True, eq=False)
class ExistingRun(KnownRun):
    """A finished run with its data, which is the data of its training."""

    data: RunData


def results_of_runs(runs: Sequence[str], given: Mapping[str, Any], conf: Path, console: HarmlessConsole) -> Results:
    """Return the results of finished runs, which are measured where they have not been.

    Runs of the same task and dataset are a case; another training length is another dataset. Within a case, runs whose
    configurations are equal but for the seed are an encoding. All that differs between encodings of a case names them:
    the encoding itself, and keys such as keys of the model or the optimizer, or the number of steps. ValueError, naming
    the run, if one is not finished, is there twice, or cannot be measured, or its data is not there any more, or has
    changed; naming the case, if it does not have two encodings, or not the baseline.

    Args:
        runs: run directories, all different.
        given: arguments of `Comparison` from the command line, such as `baseline`, `metrics`, `output` and `trust`;
            `lengths` are the lengths of the test, by default as in the first run of a case.
    """
    rest = dict(given)
    lengths, trust = rest.pop("lengths", None), rest.get("trust", ())
    console.print(f"{amount(len(runs), 'run')} to read, test and name:")
    every = [_existing(run, trust) for run in runs]
    cases = _by_case(every, conf)
    names = dict(zip(every, encoding_names(cases, every, conf), strict=True))
    encodings = {case: list(dict.fromkeys(names[run] for run in of_case)) for case, of_case in cases.items()}
    baseline = rest.get("baseline", names[every[0]])
    declared = Comparison(
        **{
            "name": "runs",
            "question": f"How do {len(runs)} runs compare?",
            "baseline": baseline,
            "encodings": [{"name": name} for name in dict.fromkeys(names.values())],
            "cases": {
                case: {
                    "train": {},
                    "lengths": lengths,
                    "metrics": None if "metrics" in rest else _metrics(of_case[0].recipe.task, lengths),
                    "encodings": encodings[case],
                }
                for case, of_case in cases.items()
            },
            "seeds": sorted({run.recipe.seed for run in every}),
            "output": f"outputs/comparisons/{datetime.now():%Y-%m-%d_%H-%M-%S}_runs",
            **rest,
        }
    )
    comparison = checked(declared)
    firsts = {case: of_case[0] for case, of_case in cases.items()}
    tested = {case: checked_lengths(comparison, case, run.recipe, run.data) for case, run in firsts.items()}
    trained = {case: run.data.longest_trained for case, run in firsts.items()}
    plan = CellPlan(comparison, {f"{case}/{encoding}": "" for case, encoding in comparison.pairs}, tested, trained)
    cells = [
        (run, plan.cell(case, names[run], run.recipe.seed, {})) for case, of_case in cases.items() for run in of_case
    ]
    paths: dict[str, Path] = {}
    for run, cell in cells:
        if cell.identity in paths:
            raise ValueError(
                f"runs must differ in more than their directories: {paths[cell.identity]} and {run.run.path} are both "
                f"{cell.label}"
            )
        paths[cell.identity] = run.run.path
    rows = []
    for run, cell in cells:
        console.print(f"{cell.label}: {run.run.path}", soft_wrap=True)
        with naming(str(run.run.path)):
            scores = measured(run.run, cell)
            result = CellResult(run.run.metrics(), scores, **origin_of(run.run))
        rows.append(row_of(run.run, cell, result, run.recipe, trained[cell.case]))
    return Results(comparison, rows, items_of_directory, exist_already=True)


def finished_run(path: str, trust: Sequence[str]) -> RunDirectory:
    """Return the directory of a finished run, whose best checkpoint counts; ValueError for anything else."""
    run = RunDirectory.of(path, trust)
    if run.path != Path(path):
        raise ValueError(f"runs must be directories, whose best checkpoints are compared, got {path}")
    if not run.is_finished:
        raise ValueError(f"{path} is not finished: it has no metrics.json")
    return run


def _existing(path: str, trust: Sequence[str]) -> ExistingRun:
    run = finished_run(path, trust)
    with naming(str(run.path)):
        recipe = recipe_of(run)
        return ExistingRun(run, recipe, trained_data(run, recipe, load_checkpoint(run.best_checkpoint)))


def _without(node: Mapping[str, Any], keys: Sequence[str], prefix: str = "") -> dict[str, Any]:
    """Return a configuration without some dotted keys."""
    return {
        key: _without(value, keys, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in node.items()
        if f"{prefix}{key}" not in keys
    }


def _by_case(every: Sequence[ExistingRun], conf: Path) -> dict[str, list[ExistingRun]]:
    """Return the runs of each case by its name: the dataset as people type it, and what distinguishes it from others.

    That is the task, the longest training length, or else a number.
    """
    cases: list[list[ExistingRun]] = []
    for run in every:
        for of_case in cases:
            if (of_case[0].recipe.task, of_case[0].dataset) == (run.recipe.task, run.dataset):
                of_case.append(run)
                break
        else:
            cases.append([run])
    firsts = [of_case[0] for of_case in cases]
    plain = [
        choice_name(conf, "dataset", run.dataset) or str(run.dataset["_target_"]).rpartition(".")[2] for run in firsts
    ]
    names = []
    for run, name in zip(firsts, plain, strict=True):
        others = [other for other, of_case in zip(firsts, plain, strict=True) if of_case == name]
        facts = {
            run.recipe.task.__name__: len({other.recipe.task for other in others}),
            str(run.data.longest_trained): len({other.data.longest_trained for other in others}),
        }
        names.append("_".join([name, *(fact for fact, count in facts.items() if count > 1)]))
    return dict(zip(distinct_names(names), cases, strict=True))


def encoding_names(cases: Mapping[str, Sequence[KnownRun]], every: Sequence[KnownRun], conf: Path) -> list[str]:
    """Return the name of the encoding of each run: equal for equal configurations, different for different ones.

    A group that is the same for all runs of each case is in no name, unless it makes the encoding.
    """
    training = {run: run.training for run in every}
    for group in {group for config in training.values() for group in config}.difference(OF_THE_ENCODING):
        if all(training[run].get(group) == training[runs[0]].get(group) for runs in cases.values() for run in runs):
            for config in training.values():
                config.pop(group, None)
    groups: list[dict[str, Any]] = []
    for config in training.values():
        if config not in groups:
            groups.append(config)
    names = distinct_names(labels(groups, conf))
    return [names[groups.index(training[run])] for run in every]


def distinct_names(names: Sequence[str]) -> list[str]:
    """Return names of encodings or cases that are valid, and differ in more than capitals and punctuation.

    Others that are the same have a number.
    """
    distinct: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"^[^A-Za-z0-9]+", "", re.sub(r"[^\w.=+-]+", "_", name))[:MAX_NAME_LENGTH].rstrip("_") or "run"
        number, unique = 1, plain
        while (key := file_name(unique)) in distinct:
            number += 1
            unique = f"{plain}_{number}"
        distinct[key] = unique
    return list(distinct.values())


def _metrics(task: type[Task], lengths: Any) -> dict[str, Any]:
    """Return the metrics that decide where none are named: the first one of the task, at each length that is named."""
    first = task.first_metric()
    tags = [f"{first}@{length}" for length in lengths] if isinstance(lengths, list) else [first]
    return {tag: {"direction": usual_direction(first, task.open_ended)} for tag in tags}
