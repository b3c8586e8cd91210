"""The command of a sweep: check it, supervise its workers, show progress, and write the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from poslab.experiments.display import SweepDisplay
from poslab.experiments.jobs import one_at_a_time
from poslab.experiments.search import MADE_WITH, make_or_join, try_sampler
from poslab.experiments.space import described
from poslab.experiments.storage import claim, naming_storage, open_output, open_storage, quieten_optuna
from poslab.experiments.storage_url import DATABASE
from poslab.experiments.sweep import Sweep
from poslab.experiments.sweep_results import write_results
from poslab.experiments.trial_run import TrialConfigurations
from poslab.experiments.workers import Workers, worker_resources
from poslab.io.files import write_atomically
from poslab.io.terminal import HarmlessConsole
from poslab.report.text import amount, roughly
from poslab.runs.recipe import Recipe
from poslab.training.components import prepared_data
from poslab.training.duration import SECONDS_OF_WORKER, seconds_of_run


def run_sweep(sweep: Sweep, conf: Path, dry_run: bool = False) -> None:
    """Run or resume a sweep until its budget is finished, and write its results.

    Args:
        sweep: the sweep.
        conf: folder of the configurations.
        dry_run: print the space, the finished trials and the time to go, and train nothing.

    Raises:
        ValueError: for a mistake, before any training.
        RunInterruptedError: after a signal; the same command resumes.
        DiskError, ProcessDiedError: as `supervise`.
        RunStoppedError: if the storage cannot be used any more.
    """
    console = HarmlessConsole()
    quieten_optuna()
    configurations = TrialConfigurations(conf, sweep)
    default = configurations.check()
    config = configurations.of({})
    recipe = Recipe.of(config)
    data = prepared_data(recipe)
    _check_objectives(sweep, recipe, data.lengths_of("validation"))
    try_sampler(sweep, sweep.search_space, default)
    output, resources = Path(sweep.output), worker_resources(sweep.workers, recipe.trainer)
    if dry_run:
        seconds = seconds_of_run(recipe, data, resources[0].threads)
        with naming_storage(sweep):
            console.print(_plan(sweep, default, config, seconds))
        return
    with naming_storage(sweep):
        open_output(output)
        with one_at_a_time(output):
            jobs = make_or_join(sweep, default, config)
            claim(output, jobs.study.user_attrs[MADE_WITH]["id"], "trials")
            kept = {key: value for key, value in asdict(sweep).items() if key != "storage"}  # it may have a password
            write_atomically(output / "sweep.yaml", OmegaConf.to_yaml(OmegaConf.create(kept)))
        order = {"sweep": asdict(sweep), "conf": str(conf), "seed": recipe.seed, "default": default}
        workers = Workers(jobs, order, resources, output / "workers")
        console.print(f"{sweep.name}: {sweep.question}", soft_wrap=True)
        console.print(f"trial 0 is the default; trials are kept in {output}", soft_wrap=True)
        jobs.fail_lost(workers.directory)
        SweepDisplay(console, jobs, sweep.workers).supervise(workers)
        jobs.tell_failures()
        with one_at_a_time(output):
            write_results(jobs, configurations, console)


def _plan(sweep: Sweep, default: Mapping[str, Any], config: Mapping[str, Any], seconds: float) -> RenderableType:
    """Return the space of a sweep and what is left to do, if each run takes as many seconds as that of trial 0."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("searched", "values", "trial 0"):
        table.add_column(name)
    for parameter in sweep.search_space.parameters:
        table.add_row(parameter.name, described(parameter.distribution), str(default.get(parameter.name, "")))
    is_there = sweep.storage is not None or (Path(sweep.output) / DATABASE).exists()
    storage = open_storage(sweep) if is_there else None
    if storage is None or sweep.name not in optuna.get_all_study_names(storage):
        left, counts = sweep.n_trials, f"0 of {sweep.n_trials} trials are finished"
    else:
        jobs = make_or_join(sweep, default, config)
        snapshot = jobs.snapshot()
        left, counts = snapshot.unfinished, SweepDisplay(HarmlessConsole(), jobs, sweep.workers).counts(snapshot)
    to_go = roughly(SECONDS_OF_WORKER + left * sweep.seeds * seconds / sweep.workers)
    with_workers = f"with {amount(sweep.workers, 'worker')}, if all take as long as trial 0"
    return Group(table, Text(f"{counts}; {f'{to_go} to go {with_workers}' if left else 'nothing to do'}"))


def _check_objectives(sweep: Sweep, recipe: Recipe, lengths: Sequence[int]) -> None:
    """Raise ValueError for a validation metric that the task does not have, or a length that the data does not have."""
    validated = recipe.task.validated
    for objective in sweep.all_objectives:
        for tag in objective.metrics:
            split, _, name = tag.partition("@")[0].partition("/")
            if split == "validation" and name.removesuffix("_beyond") not in validated:
                known = ", ".join(f"validation/{known}" for known in validated)
                raise ValueError(f"objectives: there is no {tag} in this task, which has {known}")
        if missing := set(objective.lengths(recipe.source.sequence_length)) - set(lengths):
            raise ValueError(f"{objective.label} looks at {min(missing):,} tokens, a length that no validation has")
