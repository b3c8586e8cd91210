"""Results of a sweep: a table of all trials, the best configuration, its test, figures, a report, and a summary."""

from __future__ import annotations

import json
import shlex
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot, rc_context
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as plots
from rich.console import Console
from rich.table import Column
from rich.table import Table as ConsoleTable

from poslab.configuration.command_line import poslab_command, trusting
from poslab.experiments.display import best_of, outcomes, shown, shown_values
from poslab.experiments.search import MADE_WITH, METRICS, SPECIFICATION, SweepJobs
from poslab.experiments.storage_url import url_of, without_password
from poslab.experiments.trial_run import TrialConfigurations, runs_of
from poslab.io.files import write_atomically
from poslab.io.terminal import one_line
from poslab.report.figures import Plot, ReportFigure, Table
from poslab.report.page import Section, write_figures, write_report
from poslab.runs.errors import RunStoppedError
from poslab.runs.recipe import Recipe
from poslab.training.fit import run_test

MIN_TRIALS_FOR_IMPORTANCE = 4
"""Fewest complete trials for which importance is estimated."""


class Results:
    """The results of a settled sweep, its study, and the configurations of its trials."""

    def __init__(self, jobs: SweepJobs, configurations: TrialConfigurations) -> None:
        self._jobs = jobs
        self._sweep = jobs.sweep
        self._configurations = configurations
        self._objectives = self._sweep.all_objectives
        self._output = Path(self._sweep.output)

    def write(self, console: Console) -> None:
        """Test the best trial, write the results into the sweep's directory, and print a summary.

        Raises:
            RunStoppedError: if no trial is complete.
        """
        trials = self._jobs.finished()
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        table = self._table(trials)
        write_atomically(self._output / "trials.csv", table.to_csv(index=False))
        best = best_of(complete, self._objectives)
        if best is None:
            failed = self._jobs.snapshot().failed
            failure = self._jobs.records()[failed[0]].failure if failed else None
            why = f": {failure.reason}" if failure else ""
            raise RunStoppedError(f"none of the {len(trials)} trials of {self._sweep.name} is complete{why}")
        config = self._configurations.of(self._sweep.search_space.values(best.params))
        write_atomically(self._output / "best.yaml", self._best_yaml(best, config))
        tested = self._tested(best, config)
        parts = sections(self._jobs, complete, table, best, tested)
        drawn = write_figures(self._output / "figures", parts)
        write_report(self._output / "report.html", self._sweep.question, self._facts(trials, best), parts, drawn)
        self._print(console, trials, best, tested_by_length(tested, Recipe.of(config).task.first_metric()))

    def _table(self, trials: Sequence[FrozenTrial]) -> pd.DataFrame:
        """Return a table with one row for each trial."""
        labels, records = [objective.label for objective in self._objectives], self._jobs.records()
        rows = [
            {
                "trial": trial.number,
                "attempts": len(records[str(trial.number)].attempts),
                "state": trial.state.name.lower(),
                **(dict(zip(labels, trial.values, strict=True)) if trial.state == TrialState.COMPLETE else {}),
                **trial.params,
                "validations": len(trial.intermediate_values),
                "last_reported": trial.intermediate_values.get(trial.last_step or 0),
                "seconds": records[str(trial.number)].seconds,
                "reason": getattr(records[str(trial.number)].failure, "reason", ""),
                "began": trial.datetime_start,
                **trial.user_attrs.get(METRICS, {}),
            }
            for trial in trials
        ]
        return pd.DataFrame(rows)

    def _best_yaml(self, best: FrozenTrial, config: Mapping[str, Any]) -> str:
        """Return the configuration as a primary one for `train`, with its settings of Hydra."""
        hydra = {
            "output_subdir": None,
            "job": {"name": "train"},
            "run": {"dir": f"outputs/${{now:%Y-%m-%d_%H-%M-%S}}_{self._sweep.name}_best"},
        }
        defaults = ["_self_", {"override hydra/job_logging": "none"}, {"override hydra/hydra_logging": "none"}]
        content = {"defaults": defaults, **config, "hydra": hydra}
        return (
            f"# Trial {best.number} of the sweep {self._sweep.name}, the best: {shown(best.params)}\n"
            f"# {self._command()}\n{OmegaConf.to_yaml(OmegaConf.create(content))}"
        )

    def _command(self) -> str:
        chosen = ("--config-dir", str(self._output), "--config-name", "best")
        return poslab_command("train", *chosen, *trusting(self._sweep.trust))

    def _tested(self, best: FrozenTrial, config: Mapping[str, Any]) -> dict[str, float]:
        """Return the test metrics of the best trial, as means over its seeds.

        They are empty if another machine trained it, or, with a warning, if its run can no longer be tested.
        """
        runs = [run for _, run in runs_of(self._sweep, best.number, config["seed"])]
        if not all(run.is_finished for run in runs):
            return {}
        try:
            every = [run_test(run) for run in runs]
        except ValueError as error:
            print(f"warning: the best trial is not tested: {one_line(str(error))}", file=sys.stderr)
            return {}
        return {tag: sum(metrics[tag] for metrics in every) / len(every) for tag in every[0]}

    def _facts(self, trials: Sequence[FrozenTrial], best: FrozenTrial) -> dict[str, str]:
        made = self._jobs.study.user_attrs[MADE_WITH]
        return {
            "sweep": self._sweep.name,
            "objectives": "; ".join(f"{o.direction} {o.label}" for o in self._objectives),
            "trials": f"{len(trials)}: {outcomes(trials)}",
            "best": f"trial {best.number}, {shown_values(best)}: {shown(best.params)}",
            "space": json.dumps(self._jobs.study.user_attrs[SPECIFICATION]["space"]),
            "sampler": _called(self._sweep.sampler),
            "pruner": "none" if self._sweep.pruner is None else _called(self._sweep.pruner),
            "seed": str(made["seed"]),
            "Optuna": made["optuna"],
            "commit": made["commit"] or "unknown",
            "storage": without_password(url_of(self._sweep)),
        }

    def _print(self, console: Console, trials: Sequence[FrozenTrial], best: FrozenTrial, tested: str) -> None:
        default = default_of(trials)
        console.print(f"\n{len(trials)} trials: {outcomes(trials)}")
        for objective in self._objectives:
            console.print(f"{objective.label} ({objective.better} is better):", soft_wrap=True)
        columns = [*(Column(no_wrap=True) for _ in range(3)), Column(overflow="fold")]
        table = ConsoleTable(*columns, box=None, show_header=False, padding=(0, 1))
        rows = [("best", best), ("default", default)]
        if len(self._objectives) > 1:
            rows = [("front", trial) for trial in pareto_front(self._jobs)] + [("default", default)]
            console.print(f"best.yaml and the test are of trial {best.number}, which has the best first objective")
        for name, trial in rows:
            if trial is not None:
                table.add_row(name, f"trial {trial.number}", shown_values(trial), shown(trial.params))
        console.print(table)
        if default is None:
            console.print("the default is not complete: the gain of tuning is unknown")
        elif len(self._objectives) == 1:
            worth = abs(best.values[0] - default.values[0])
            luck = " (one seed a trial: some of it is luck)" if self._sweep.seeds == 1 else ""
            console.print(f"tuning was worth {worth:.4f} on validation{luck}" if worth else "the default is the best")
        if tested:
            console.print(f"test of trial {best.number} alone, {tested}", soft_wrap=True)
        else:
            console.print(f"trial {best.number} was trained on another machine, which can test it", soft_wrap=True)
        lines = [
            "next:",
            f"  train the best  {self._command()}",
            f"  read            {self._output / 'report.html'}",
            f"  look            {shlex.join(['tensorboard', '--logdir', str(self._output / 'trials')])}",
        ]
        url = url_of(self._sweep)
        if without_password(url) == url:  # otherwise the command would lack the password
            lines.append(f"  dashboard       {shlex.join(['optuna-dashboard', url])}")
        for line in lines:
            console.print(line, soft_wrap=True)


def tested_by_length(tested: Mapping[str, float], metric: str) -> str:
    """Return a metric of a test in words, from test metrics by tag; "" without any.

    tested_by_length({"test/loss@16": 2.5, "test/loss@32": 3.0}, "loss") == "loss by length: 2.5000 at 16, 3.0000 at 32"
    """
    values = ((tag.removeprefix(f"test/{metric}@"), value) for tag, value in tested.items())
    at_lengths = [f"{value:.4f} at {int(length):,}" for length, value in values if length.isdigit()]
    return f"{metric.replace('_', ' ')} by length: {', '.join(at_lengths)}" if at_lengths else ""


def _called(node: Mapping[str, Any]) -> str:
    arguments = ", ".join(f"{key}={value}" for key, value in node.items() if key != "_target_")
    return f"{str(node['_target_']).rpartition('.')[2]}({arguments})"


def default_of(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Return trial 0, the default, if it is complete and among these."""
    return next((trial for trial in trials if trial.number == 0 and trial.state == TrialState.COMPLETE), None)


def pareto_front(jobs: SweepJobs) -> list[FrozenTrial]:
    """Return the trials of the budget that no other beats in all objectives, by their first value."""
    best = [trial for trial in jobs.study.best_trials if trial.number < jobs.sweep.n_trials]
    return sorted(best, key=lambda trial: trial.values[0])


def sections(
    jobs: SweepJobs,
    complete: Sequence[FrozenTrial],
    trials: pd.DataFrame,
    best: FrozenTrial,
    tested: Mapping[str, float],
) -> list[Section]:
    """Return the sections of a report on a settled study.

    `complete` are the complete trials, `trials` has one row for each trial, and `tested` are the test metrics of the
    best one by tag, empty if unknown.
    """
    sweep, study = jobs.sweep, jobs.study
    objectives, names = sweep.all_objectives, [objective.label for objective in sweep.all_objectives]
    is_single = len(objectives) == 1
    target = None if is_single else lambda trial: trial.values[0]
    drawn = {"target": target, "target_name": names[0]}
    parameters = [p.name for p in sweep.search_space.parameters if any(p.name in trial.params for trial in complete)]
    shared = [name for name in parameters if all(name in trial.params for trial in complete)]
    varied = [name for name in shared if len({trial.params[name] for trial in complete}) > 1]
    better = " and ".join(f"{o.better} of {o.label} is better" for o in objectives)
    worth: list[ReportFigure] = [_worth(complete, names, best, better)]
    if tested:
        worth.append(_test(best, tested))
    if is_single:
        figure = _figure(lambda: plots.plot_optimization_history(study, target_name=names[0]), 7.0, 4.0)
        caption = "Each point is a complete trial, and the line the best value so far. Where the line is flat, "
        caption += "further trials did not help."
        worth.append(Plot("history", "Optimization history", caption, figure))
    else:
        figure = _figure(lambda: plots.plot_pareto_front(study, target_names=names), 6.5, 4.5)
        caption = f"No other trial beats one on the front in both objectives: {better}."
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
        caption = "The share of each parameter in the difference between the best trials and the others. With few "
        caption += "trials it is a rough guess, and it applies only to the ranges that were searched."
        source = "Watanabe, Bansal, Hutter, “PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary "
        source += "Subspaces” (IJCAI 2023)"
        effects.append(Plot("importance", "Which parameters matter", caption, figure, source=source))
    width = max(4.5, 3.2 * len(parameters))
    figure = _figure(lambda: plots.plot_slice(study, parameters, **drawn), width, 4.8, bottom=0.0)
    caption = "Every complete trial at its value of each parameter, while the others vary too."
    effects.append(Plot("slices", "Each parameter by itself", caption, figure))
    numbers = [name for name in varied if all(isinstance(trial.params[name], int | float) for trial in complete)]
    if len(numbers) >= 2 and len(complete) >= MIN_TRIALS_FOR_IMPORTANCE:
        figure = _figure(lambda: plots.plot_contour(study, numbers[:2], **drawn), 6.0, 4.5)
        caption = "Each point is a complete trial. The colours between the points are interpolated."
        effects.append(Plot("contour", f"{numbers[0]} and {numbers[1]} together", caption, figure))
    if len(shared) >= 2:
        draw = lambda: plots.plot_parallel_coordinate(study, shared, **drawn)  # noqa: E731
        caption = "Each line is a complete trial, coloured by its value."
        effects.append(
            Plot(
                "parallel",
                "All parameters together",
                caption,
                _figure(draw, 1.8 * len(shared) + 3, 4.8, bottom=0.32),
            )
        )
    columns = [name for name in trials.columns if not str(name).startswith(("train/", "memory/", "parameters"))]
    caption = "One row for each trial; trial 0 is the default. A pruned trial has only its last reported value."
    return [
        Section("What tuning was worth", sweep.question, worth),
        Section("What each parameter does", "All of it is on validation data.", effects),
        Section("Trials", "", [Table("trials", "All trials", caption, trials[columns])]),
    ]


def _figure(draw: Callable[[], Any], width: float, height: float, bottom: float | None = None) -> Figure:
    """Return a figure of this size in inches that a function of Optuna draws, without a title, in Optuna's style.

    Panels with their own colour bar serve no layout: `bottom` is the share of the height below them (0: as it is).
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
    figure.set_layout_engine("tight" if bottom is None else "none")
    if bottom:
        figure.subplots_adjust(bottom=bottom)
    return figure


def _worth(complete: Sequence[FrozenTrial], names: Sequence[str], best: FrozenTrial, better: str) -> Table:
    rows = [
        {"": name, "trial": trial.number, **dict(zip(names, trial.values, strict=True)), **trial.params}
        for name, trial in (("best", best), ("default", default_of(complete)))
        if trial is not None
    ]
    caption = (
        f"The default is the configuration without a search; {better}. Both are on validation data, where the best "
    )
    caption += "of many trials looks a little better than it is."
    return Table("worth", "The best trial and the default", caption, pd.DataFrame(rows))


def _test(best: FrozenTrial, tested: Mapping[str, float]) -> Table:
    lengths = sorted({int(tag.partition("@")[2]) for tag in tested if "@" in tag})
    names = [tag.removeprefix("test/") for tag in tested if "@" not in tag]
    rows = [
        {"length": length, **{name.replace("_", " "): tested.get(f"test/{name}@{length}") for name in names}}
        for length in lengths
    ]
    caption = "The only metrics on test data: of the best trial, once, after everything was chosen."
    return Table("test", f"Test of trial {best.number}", caption, pd.DataFrame(rows))
