"""The command of a sweep: check it, supervise its workers, show progress, and write the results."""

from __future__ import annotations

import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib import pyplot, rc_context
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as plots
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table as Lines
from rich.text import Text

from poslab.configuration.command_line import poslab_command, trusting
from poslab.experiments.display import SweepDisplay, best_of, outcomes, shown, shown_values
from poslab.experiments.jobs import one_at_a_time
from poslab.experiments.report.write import print_table
from poslab.experiments.search import MADE_WITH, METRICS, SweepJobs, make_or_join, try_sampler
from poslab.experiments.space import described
from poslab.experiments.storage import claim, naming_storage, open_output, open_storage, quieten_optuna
from poslab.experiments.storage_url import DATABASE, DamagedStorageError, url_of, without_password
from poslab.experiments.sweep import Sweep
from poslab.experiments.trial_run import TrialConfigurations, runs_of
from poslab.experiments.workers import Workers, worker_resources
from poslab.io.files import write_atomically
from poslab.io.terminal import HarmlessConsole, one_line
from poslab.report.figures import Plot, ReportFigure, Section, Table, write_figures, write_report
from poslab.report.text import amount, roughly
from poslab.runs.errors import RunStoppedError
from poslab.runs.recipe import Recipe
from poslab.training.components import prepared_data
from poslab.training.duration import SECONDS_OF_WORKER, seconds_of_run
from poslab.training.fit import run_test


def run_sweep(sweep: Sweep, conf: Path, dry_run: bool = False) -> None:
    """Run or resume a sweep until its budget is finished, and write its results.

    With `dry_run`, print the space, the finished trials and the time to go, and train nothing.

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
    """Return the space of a sweep and what is left to do, if each run takes as many seconds as the run of trial 0."""
    table = Lines("searched", "values", "trial 0", box=box.SIMPLE_HEAD)
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


MIN_TRIALS_FOR_IMPORTANCE = 4  # fewest complete trials for which importance is estimated


def write_results(jobs: SweepJobs, configurations: TrialConfigurations, console: Console) -> None:
    """Test the best trial of a settled sweep, write the results into its directory, and print a summary.

    Raises:
        DamagedStorageError: for parameters that are not of the space.
        RunStoppedError: if no trial is complete.
    """
    sweep, output, trials = jobs.sweep, Path(jobs.sweep.output), jobs.finished()
    for trial in trials:
        if trial.state == TrialState.COMPLETE and not sweep.search_space.contains(trial.params):
            raise DamagedStorageError(f"is damaged: the parameters of trial {trial.number} are not of the space")
    table = trials_frame(jobs, trials)
    write_atomically(output / "trials.csv", table.to_csv(index=False))
    best = best_of(trials, sweep.all_objectives)
    if best is None:
        reasons = [reason for reason in table.get("reason", ()) if reason]
        reason = f": {reasons[0]}" if reasons else ""
        raise RunStoppedError(f"none of the {len(trials)} trials of {sweep.name} is complete{reason}")
    config = configurations.of(sweep.search_space.values(best.params))
    chosen = ("--config-dir", str(output), "--config-name", "best")
    command = poslab_command("train", *chosen, *trusting(sweep.trust))
    # a primary configuration for `train`, with its settings of Hydra
    hydra = {
        "output_subdir": None,
        "job": {"name": "train"},
        "run": {"dir": f"outputs/${{now:%Y-%m-%d_%H-%M-%S}}_{sweep.name}_best"},
    }
    defaults = ["_self_", {"override hydra/job_logging": "none"}, {"override hydra/hydra_logging": "none"}]
    text = OmegaConf.to_yaml(OmegaConf.create({"defaults": defaults, **config, "hydra": hydra}))
    head = f"# Trial {best.number} of the sweep {sweep.name}, the best: {shown(best.params)}\n# {command}\n"
    write_atomically(output / "best.yaml", head + text)

    tested = _tested(jobs, best, config)
    sections = report_sections(jobs, trials, table, best, tested)
    made, url = jobs.study.user_attrs[MADE_WITH], url_of(sweep)
    facts = {
        "sweep": sweep.name,
        "trials": f"{len(trials)}: {outcomes(trials)}",
        "best": f"trial {best.number}, {shown_values(best)}: {shown(best.params)}",
        "seed": str(made["seed"]),
        "Optuna": made["optuna"],
        "commit": made["commit"] or "unknown",
        "storage": without_password(url),
    }
    drawn = write_figures(output / "figures", sections)
    write_report(output / "report.html", sweep.question, facts, sections, drawn)

    console.print(f"{len(trials)} trials: {outcomes(trials)}")
    for summary in sections[0].figures:
        if isinstance(summary, Table):
            print_table(console, summary.title, summary.frame)
    if tested.empty:
        console.print(f"trial {best.number} has no test on this machine", soft_wrap=True)
    console.print("next:")
    console.print(f"  train the best  {command}", soft_wrap=True)
    console.print(f"  read            {output / 'report.html'}", soft_wrap=True)
    console.print(
        f"  look            {shlex.join(['tensorboard', '--logdir', str(output / 'trials')])}", soft_wrap=True
    )
    if without_password(url) == url:  # otherwise the command would lack the password
        install = "" if shutil.which("optuna-dashboard") else "   # pip install optuna-dashboard"
        console.print(f"  dashboard       {shlex.join(['optuna-dashboard', url])}{install}", soft_wrap=True)


def trials_frame(jobs: SweepJobs, trials: Sequence[FrozenTrial]) -> pd.DataFrame:
    """Return a row for each trial."""
    labels, records = [objective.label for objective in jobs.sweep.all_objectives], jobs.records()
    rows = []
    for trial in trials:
        record = records[str(trial.number)]
        values = dict(zip(labels, trial.values, strict=True)) if trial.state == TrialState.COMPLETE else {}
        rows.append(
            {
                "trial": trial.number,
                "attempts": len(record.attempts),
                "state": trial.state.name.lower(),
                **values,
                **trial.params,
                "validations": len(trial.intermediate_values),
                "last_reported": trial.intermediate_values.get(trial.last_step or 0),
                "seconds": record.seconds,
                "reason": "" if record.failure is None else record.failure.reason,
                "began": trial.datetime_start,
                **trial.user_attrs.get(METRICS, {}),
            }
        )
    return pd.DataFrame(rows)


def _tested(jobs: SweepJobs, best: FrozenTrial, config: Mapping[str, Any]) -> pd.DataFrame:
    """Return the test metrics of the best trial, a row for each length, as means over its seeds.

    It is empty if another machine trained the trial, or, with a warning, if its run can no longer be tested.
    """
    runs = [run for _, run in runs_of(jobs.sweep, best.number, config["seed"])]
    if not all(run.is_finished for run in runs):
        return pd.DataFrame()
    try:
        metrics = pd.DataFrame([run_test(run) for run in runs]).mean()
    except ValueError as error:
        print(f"warning: the best trial is not tested: {one_line(str(error))}", file=sys.stderr)
        return pd.DataFrame()
    tags = {tag: tag.removeprefix("test/").partition("@") for tag in metrics.index}
    rows: dict[int, dict[str, float]] = {}
    for tag, (name, at, length) in tags.items():
        if at and f"test/{name}" in tags:
            rows.setdefault(int(length), {})[name] = metrics[tag]
    return pd.DataFrame([{"length": length, **rows[length]} for length in sorted(rows)])


def report_sections(
    jobs: SweepJobs, trials: Sequence[FrozenTrial], table: pd.DataFrame, best: FrozenTrial, tested: pd.DataFrame
) -> list[Section]:
    """Return the sections of a report on a settled study.

    `table` has one row for each trial, and `tested` one for each length of the best trial's test.
    """
    sweep, study = jobs.sweep, jobs.study
    objectives, names = sweep.all_objectives, [objective.label for objective in sweep.all_objectives]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    parameters = [p.name for p in sweep.search_space.parameters if any(p.name in trial.params for trial in complete)]
    shared = [name for name in parameters if all(name in trial.params for trial in complete)]
    varied = [name for name in shared if len({trial.params[name] for trial in complete}) > 1]
    worth: list[ReportFigure] = [_best_and_default(jobs, complete, best)]
    if not tested.empty:
        caption = "The only metrics on test data: of the best trial, once, after everything was chosen."
        worth.append(Table("test", f"Test of trial {best.number}", caption, tested))
    if len(objectives) == 1:
        target = None
        figure = _figure(lambda: plots.plot_optimization_history(study, target_name=names[0]), 7.0, 4.0)
        caption = "Each point is a complete trial, and the line the best value so far."
        worth.append(Plot("history", "Optimization history", caption, figure))
    else:
        target = lambda trial: trial.values[0]  # noqa: E731
        figure = _figure(lambda: plots.plot_pareto_front(study, target_names=names), 6.5, 4.5)
        caption = "No other trial beats one on the front in both objectives."
        worth.append(Plot("front", "Pareto front", caption, figure))
    effects: list[ReportFigure] = []
    if len(complete) >= MIN_TRIALS_FOR_IMPORTANCE and varied and len({trial.values[0] for trial in complete}) > 1:
        sign = 1 if objectives[0].minimized else -1
        with warnings.catch_warnings():
            # It warns that small targets count as good, which signed values satisfy.
            warnings.filterwarnings("ignore", message="PedAnovaImportanceEvaluator computes")
            figure = _figure(
                lambda: plots.plot_param_importances(
                    study, target=lambda trial: sign * trial.values[0], target_name=names[0]
                ),
                7.0,
                1.6 + 0.4 * len(shared),
            )
        caption = "The share of each parameter in the difference between the best trials and the others (PED-ANOVA)."
        effects.append(Plot("importance", "Which parameters matter", caption, figure, source="Watanabe et al. (2023)"))
    figure = _figure(
        lambda: plots.plot_slice(study, parameters, target=target, target_name=names[0]),
        max(4.5, 3.2 * len(parameters)),
        4.8,
        has_layout=False,
    )
    caption = "Every complete trial at its value of each parameter, while the others vary too."
    effects.append(Plot("slices", "Each parameter by itself", caption, figure))
    columns = [name for name in table.columns if not str(name).startswith(("train/", "memory/", "parameters"))]
    caption = "One row for each trial; trial 0 is the default. A pruned trial has only its last reported value."
    return [
        Section("What tuning was worth", sweep.question, worth),
        Section("What each parameter does", "All of it is on validation data.", effects),
        Section("Trials", "", [Table("trials", "All trials", caption, table[columns])]),
    ]


def _best_and_default(jobs: SweepJobs, complete: Sequence[FrozenTrial], best: FrozenTrial) -> Table:
    """Return a row for the best trial, or each trial of the front of several objectives, and for the default."""
    objectives = jobs.sweep.all_objectives
    default = [trial for trial in complete if trial.number == 0]
    leading = [best]
    if len(objectives) > 1:
        front = {trial.number for trial in jobs.study.best_trials}
        leading = sorted((t for t in complete if t.number in front), key=lambda trial: trial.values[0])
    names = [objective.label for objective in objectives]
    rows = [
        {"": name, "trial": trial.number, **dict(zip(names, trial.values, strict=True)), **trial.params}
        for name, trial in [*(("best", trial) for trial in leading), *(("default", trial) for trial in default)]
    ]
    better = " and ".join(f"{objective.better} of {objective.label} is better" for objective in objectives)
    caption = f"On validation data: {better}. best.yaml and the test are of trial {best.number}."
    return Table("worth", "The best trial and the default", caption, pd.DataFrame(rows))


def _figure(draw: Callable[[], Any], width: float, height: float, has_layout: bool = True) -> Figure:
    """Return a figure of this size in inches that a function of Optuna draws, without a title, in Optuna's style.

    Panels with their own colour bar fit no layout.
    """
    with rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Attempting to set identical")  # a parameter with a single value
        panels = np.ravel(draw())
        figure = panels[0].figure
    assert isinstance(figure, Figure)
    pyplot.close(figure)
    for axes in panels:
        for loc in ("left", "center"):
            axes.set_title("", loc=loc)
    figure.suptitle("")
    figure.set_size_inches(width, height)
    figure.set_layout_engine("tight" if has_layout else "none")
    return figure
