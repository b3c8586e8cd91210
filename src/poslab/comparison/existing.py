"""Comparisons of runs that exist already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from poslab.comparison.cell_run import machine_of, measured, start_of
from poslab.comparison.cells import CellPlan, CellResult
from poslab.comparison.comparison import Comparison
from poslab.comparison.lengths import checked_lengths
from poslab.comparison.results import Results
from poslab.configuration.labels import choice_name, labels
from poslab.io.terminal import HarmlessConsole
from poslab.runs.directory import RunDirectory
from poslab.runs.recipe import Recipe, recipe_of
from poslab.tasks.task import Task
from poslab.training.components import prepared_data


@dataclass(frozen=True)
class ExistingRun:
    """A finished run: its directory, its recipe, and its configuration without seeds."""

    run: RunDirectory
    recipe: Recipe
    seedless: Mapping[str, Any]


def results_of_runs(runs: Sequence[str], given: Mapping[str, Any], conf: Path, console: HarmlessConsole) -> Results:
    """Return the results of finished runs, which are measured where they have not been.

    Runs of one dataset are a case, those whose configurations differ in more than the seed are encodings, named by what
    differs.

    Args:
        runs: run directories, all different.
        given: arguments of `Comparison` from the command line, such as `baseline`, `metrics`, `output` and `trust`;
            `lengths` are those of the test.
        conf: folder of the choices, whose names are used.
        console: says what is measured.

    Raises:
        ValueError: for runs that are not finished, that are the same twice, or that cannot be measured.
    """
    rest = dict(given)
    lengths, trust = rest.pop("lengths", None), rest.get("trust", ())
    every = [_existing(run, trust) for run in runs]
    cases: dict[str, list[ExistingRun]] = {}
    for one in every:
        cases.setdefault(_case_name(one, cases, conf), []).append(one)
    names: dict[int, str] = {}
    for own in cases.values():
        groups = [next(one.seedless for one in own if one.seedless == other.seedless) for other in own]
        names |= {id(one): label.replace(" ", "_") for one, label in zip(own, labels(groups, conf), strict=True)}
    comparison = Comparison(
        **{
            "name": "runs",
            "question": f"How do {len(runs)} runs compare?",
            "baseline": names[id(every[0])],
            "encodings": [{"name": name} for name in dict.fromkeys(names.values())],
            "cases": {
                case: {
                    "train": {},
                    "lengths": lengths,
                    "metrics": _metrics(own[0].recipe.task) if "metrics" not in rest else None,
                    "encodings": list(dict.fromkeys(names[id(one)] for one in own)),
                }
                for case, own in cases.items()
            },
            "seeds": sorted({one.recipe.seed for one in every}),
            "output": f"outputs/comparisons/{datetime.now():%Y-%m-%d_%H-%M-%S}_runs",
            **rest,
        }
    )
    tested, trained, tasks = {}, {}, {}
    for case, own in cases.items():
        data = prepared_data(own[0].recipe)
        tasks[case], trained[case] = own[0].recipe.task, data.longest_trained
        tested[case] = checked_lengths(comparison, case, own[0].recipe.task, data)
    definitions = {f"{case}/{encoding}": 1 for case, encoding in comparison.pairs}
    plan = CellPlan(comparison, definitions, tested, trained)
    finished: dict[str, CellResult | None] = {}
    places: dict[str, Path] = {}
    for case, own in cases.items():
        for one in own:
            cell = plan.cell(case, names[id(one)], one.recipe.seed, {})
            if cell.identity in places:
                raise ValueError(f"runs must differ, and {places[cell.identity]} and {one.run.path} are the same")
            console.print(f"measuring {one.run.path}", soft_wrap=True)
            scores = measured(one.run, cell)
            finished[cell.identity] = CellResult(
                one.run.metrics(), scores, machine=machine_of(one.run), start=start_of(one.run)
            )
            places[cell.identity] = one.run.path
    return Results(plan, finished, tasks, places)


def _existing(path: str, trust: Sequence[str]) -> ExistingRun:
    run = RunDirectory.of(path, trust)
    if not run.is_finished:
        raise ValueError(f"{path} is not finished: it has no metrics.json")
    recipe = recipe_of(run)
    dataset = {key: value for key, value in recipe.config["dataset"].items() if key != "seed"}
    apart = ("seed", "resume", "trust", "callbacks", "logger")
    seedless = {key: value for key, value in recipe.config.items() if key not in apart} | {"dataset": dataset}
    return ExistingRun(run, recipe, seedless)


def _case_name(one: ExistingRun, cases: Mapping[str, Sequence[ExistingRun]], conf: Path) -> str:
    """Return the case of a run: that of runs of the same dataset, or a new one, named as people type the dataset."""
    for name, own in cases.items():
        if own[0].seedless["dataset"] == one.seedless["dataset"]:
            return name
    dataset = one.seedless["dataset"]
    name = choice_name(conf, "dataset", dataset) or str(dataset["_target_"]).rpartition(".")[2]
    return name if name not in cases else f"{name}_{sum(other.startswith(name) for other in cases) + 1}"


def _metrics(task: type[Task]) -> dict[str, Any]:
    """Return the metrics that decide where none are named: the first that a test shows, or bits per byte of text."""
    first = "bits_per_byte" if "bits_per_byte" in task.validated else task.shown[0]
    direction = "minimize" if first in task.open_ended else "maximize"
    return {first: {"direction": direction}}
