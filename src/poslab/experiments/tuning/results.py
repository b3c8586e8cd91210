"""Results of a sweep: the best configuration, a table of trials, figures, and their report."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Column, Table

from poslab.configuration.command_line import poslab_command, trusting
from poslab.experiments.tuning.attributes import MADE_WITH, METRICS, SPECIFICATION, DamagedStorageError
from poslab.experiments.tuning.display import best_of, outcomes, shown, shown_values
from poslab.experiments.tuning.figures import front, sections
from poslab.experiments.tuning.storage_url import url_of, without_password
from poslab.experiments.tuning.study import SweepStudy
from poslab.experiments.tuning.sweep import Sweep
from poslab.experiments.tuning.trial_configuration import TrialConfigurations
from poslab.experiments.tuning.trial_record import TrialRecord, default_trial, first_attempt, recorded_failure
from poslab.experiments.tuning.trial_run import runs_of
from poslab.io.files import write_atomically
from poslab.io.terminal import one_line
from poslab.report.page import write_figures, write_report
from poslab.runs.errors import RunStoppedError
from poslab.runs.recipe import Recipe
from poslab.training.fit import run_test

BEST = "best.yaml"


class Results:
    """The results of a settled sweep, its study, and the configurations of its trials."""

    def __init__(self, sweep: Sweep, study: SweepStudy, configurations: TrialConfigurations) -> None:
        self._sweep = sweep
        self._study = study
        self._configurations = configurations
        self._objectives = sweep.all_objectives
        self._output = Path(sweep.output)

    def write(self, console: Console) -> None:
        """Test the best trial, write the results into the sweep's directory, and print a summary.

        Raises:
            DamagedStorageError: for parameters that are not of the space.
            RunStoppedError: if no trial is complete.
        """
        record = self._study.record()
        for trial in record.in_state(TrialState.COMPLETE):
            if not self._sweep.search_space.contains(trial.params):
                raise DamagedStorageError(f"is damaged: the parameters of trial {trial.number} are not of the space")
        table = self._trials(record)
        write_atomically(self._output / "trials.csv", table.to_csv(index=False))
        best = best_of(record, self._objectives)
        if best is None:
            failed = record.in_state(TrialState.FAIL)
            why = f": {recorded_failure(failed[0]).reason}" if failed else ""
            raise RunStoppedError(f"none of the {len(record.finished)} trials of {self._sweep.name} is complete{why}")
        config = self._configurations.of(self._sweep.search_space.values(best.params))
        write_atomically(self._output / BEST, self._best_yaml(best, config))
        tested = self._tested(best, config)
        parts = sections(self._study, self._sweep, table, best, tested)
        drawn = write_figures(self._output / "figures", parts)
        write_report(self._output / "report.html", self._sweep.question, self._facts(record, best), parts, drawn)
        self._print(console, record, best, tested_by_length(tested, Recipe.of(config).task.first_metric()))

    def _trials(self, record: TrialRecord) -> pd.DataFrame:
        """Return a table with one row for each attempt."""
        labels = [objective.label for objective in self._objectives]
        rows = [
            {
                "trial": trial.number,
                "attempt_of": first_attempt(trial),
                "state": trial.state.name.lower(),
                **(dict(zip(labels, trial.values, strict=True)) if trial.state == TrialState.COMPLETE else {}),
                **trial.params,
                "validations": len(trial.intermediate_values),
                "last_reported": trial.intermediate_values.get(trial.last_step or 0),
                "seconds": None if trial.duration is None else round(trial.duration.total_seconds(), 1),
                "reason": recorded_failure(trial).reason if trial.state == TrialState.FAIL else "",
                "began": trial.datetime_start,
                **trial.user_attrs.get(METRICS, {}),
            }
            for trial in record.all_attempts
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
        runs = [run for _, run in runs_of(self._sweep, first_attempt(best), config["seed"])]
        if not all(run.is_finished for run in runs):
            return {}
        try:
            every = [run_test(run) for run in runs]
        except ValueError as error:
            print(f"warning: the best trial is not tested: {one_line(str(error))}", file=sys.stderr)
            return {}
        return {tag: sum(metrics[tag] for metrics in every) / len(every) for tag in every[0]}

    def _facts(self, record: TrialRecord, best: FrozenTrial) -> dict[str, str]:
        made = self._study.user_attrs[MADE_WITH]
        return {
            "sweep": self._sweep.name,
            "objectives": "; ".join(f"{o.direction} {o.label}" for o in self._objectives),
            "trials": f"{len(record.finished)}: {outcomes(record)}",
            "best": f"trial {best.number}, {shown_values(best)}: {shown(best.params)}",
            "space": json.dumps(self._study.user_attrs[SPECIFICATION]["space"]),
            "sampler": _called(self._sweep.sampler),
            "pruner": "none" if self._sweep.pruner is None else _called(self._sweep.pruner),
            "seed": str(made["seed"]),
            "Optuna": made["optuna"],
            "commit": made["commit"] or "unknown",
            "storage": without_password(url_of(self._sweep)),
        }

    def _print(self, console: Console, record: TrialRecord, best: FrozenTrial, tested: str) -> None:
        default = default_trial(record.in_state(TrialState.COMPLETE))
        console.print(f"\n{len(record.finished)} trials: {outcomes(record)}")
        for objective in self._objectives:
            console.print(f"{objective.label} ({objective.better} is better):", soft_wrap=True)
        columns = [*(Column(no_wrap=True) for _ in range(3)), Column(overflow="fold")]
        table = Table(*columns, box=None, show_header=False, padding=(0, 1))
        rows = [("best", best), ("default", default)]
        if len(self._objectives) > 1:
            rows = [("front", trial) for trial in front(self._study, record)] + [("default", default)]
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
