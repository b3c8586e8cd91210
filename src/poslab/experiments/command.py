"""The command of a comparison: check it, supervise its workers, show progress, and write the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from poslab.data.run_data import RunData
from poslab.experiments.collect import read_results, results_of_cells, write_tables
from poslab.experiments.comparison import Comparison
from poslab.experiments.configurations import CellConfigurations
from poslab.experiments.display import ComparisonDisplay, plan_table
from poslab.experiments.existing import results_of_runs
from poslab.experiments.jobs import one_at_a_time
from poslab.experiments.lengths import checked_lengths
from poslab.experiments.plan import CellPlan
from poslab.experiments.report.recommendation import Needs, print_recommendations
from poslab.experiments.report.write import write
from poslab.experiments.results import Results
from poslab.experiments.speed import with_kept_speeds, with_speeds
from poslab.experiments.storage import (
    check_claim,
    claim,
    keep_arguments,
    make,
    naming_storage,
    open_output,
    quieten_optuna,
)
from poslab.experiments.study import ComparisonJobs, definitions, ledger_of
from poslab.experiments.workers import Workers, worker_resources
from poslab.io.files import refuse_links
from poslab.io.terminal import HarmlessConsole
from poslab.runs.recipe import Recipe
from poslab.runs.trainer_settings import TrainerSettings
from poslab.tasks.task import Task
from poslab.training.components import prepared_data
from poslab.training.duration import seconds_of_run

EXISTING = "existing runs"
"""Owner of a directory with the results of existing runs, in place of the identity of a study."""


def run_comparison(
    comparison: Comparison,
    conf: Path,
    typed: str,
    needs: Mapping[str, Any],
    dry_run: bool = False,
    report_only: bool = False,
    recommend: bool = False,
    figure_width: float | None = None,
) -> None:
    """Run or resume a comparison until all of its cells are finished, and write its results.

    Args:
        comparison: the comparison.
        conf: folder of the configurations.
        typed: the command, for the report.
        needs: arguments of `Needs`, for a recommendation.
        dry_run: print the cells, and train nothing.
        report_only: write the results of the cells that are finished, and train nothing.
        recommend: print a recommendation too.
        figure_width: in inches of pictures as PDF; None is that of the page.

    Raises:
        ValueError: for a mistake, before any training.
        RunInterruptedError: after a signal; the same command resumes.
        DiskError, ProcessDiedError: as `supervise`.
        RunStoppedError: if the storage cannot be used any more.
    """
    console, asked = HarmlessConsole(), Needs(**needs)
    quieten_optuna()
    configurations = CellConfigurations(conf, comparison)
    cases = _checked(comparison, configurations)
    output = Path(comparison.output)
    with naming_storage(comparison, is_database=comparison.storage is not None):
        open_output(comparison, "runs")
        ledger = ledger_of(comparison)
        with one_at_a_time(output):
            keep = not (dry_run or report_only)
            identity, numbers = definitions(ledger, comparison, configurations, keep)
            plan = CellPlan(comparison, numbers, cases.lengths, cases.trained)
            jobs = ComparisonJobs(plan, ledger)
            claim(output, identity, "runs")
            keep_arguments(comparison, "comparison.yaml", comparison.as_plain_data())
        if not report_only:
            check_splits(results_of_cells(plan, jobs.results(), cases.tasks, cases.splits))
        if dry_run:
            console.print(plan_table(jobs, cases.seconds_of_run))
            return
        if not report_only:
            resources = worker_resources(comparison.workers, cases.trainer)
            order = {"plan": asdict(plan), "conf": str(conf)}
            workers = Workers(jobs, order, resources, output / "workers", comparison.hang_after)
            console.print(f"runs are kept in {output}", soft_wrap=True)
            jobs.fail_lost(workers.directory)
            ComparisonDisplay(console, jobs, comparison.workers).supervise(workers)
        with one_at_a_time(output):
            found = results_of_cells(plan, jobs.results(), cases.tasks, cases.splits)
            results = with_kept_speeds(found) if report_only else with_speeds(found, console)
            write_tables(results, output)
            write(results, console, typed, figure_width)
        if recommend:
            print_recommendations(console, results, asked)


def compare_runs(
    runs: Sequence[str],
    given: Mapping[str, Any],
    conf: Path,
    typed: str,
    needs: Mapping[str, Any],
    recommend: bool = False,
    figure_width: float | None = None,
) -> None:
    """Compare runs that exist already, and write the results.

    Args:
        runs, given: as of `results_of_runs`.
        conf, typed, needs, recommend, figure_width: as of `run_comparison`.

    Raises:
        ValueError: as of `results_of_runs`, or if the output belongs to a comparison that trains its runs, or a sweep.
    """
    console, asked = HarmlessConsole(), Needs(**needs)
    if "output" in given:
        check_claim(Path(str(given["output"])), EXISTING, "runs")  # before tests, which may take long
    results = results_of_runs(runs, given, conf, console)
    output = Path(results.comparison.output)
    make(output)
    refuse_links(output.absolute())
    with one_at_a_time(output):
        claim(output, EXISTING, "runs")
        results = with_speeds(results, console)
        write_tables(results, output)
        write(results, console, typed, figure_width)
    if recommend:
        print_recommendations(console, results, asked)


def report_tables(
    folder: Path,
    typed: str,
    needs: Mapping[str, Any],
    baseline: str | None = None,
    recommend: bool = False,
    figure_width: float | None = None,
) -> None:
    """Write the report of results in a folder of tables, which need neither data nor models.

    Args:
        folder: with the tables.
        typed, needs, recommend, figure_width: as of `run_comparison`.
        baseline: encoding to which the others are compared; None is that of the comparison.

    Raises:
        ValueError: as of `read_results`, or for a baseline that is not among the encodings.
    """
    console, asked, results = HarmlessConsole(), Needs(**needs), read_results(folder, baseline)
    with one_at_a_time(folder):
        write(results, console, typed, figure_width)
    if recommend:
        print_recommendations(console, results, asked)


@dataclass(frozen=True)
class CheckedCases:
    """Checked cases: the recipes by case and encoding, and by case the data and the lengths of the test.

    `workers` are as of `Comparison`.
    """

    recipes: dict[str, dict[str, Recipe]]
    data: dict[str, RunData]
    lengths: dict[str, list[int]]
    workers: int

    @property
    def tasks(self) -> dict[str, type[Task]]:
        """The task of each case, which all encodings learn."""
        return {case: next(iter(own.values())).task for case, own in self.recipes.items()}

    @property
    def splits(self) -> dict[str, int]:
        """The version of the split of the data of each case."""
        return {case: next(iter(own.values())).source.split_version for case, own in self.recipes.items()}

    @property
    def trained(self) -> dict[str, int]:
        """The longest length of training of each case."""
        return {case: data.longest_trained for case, data in self.data.items()}

    @property
    def threads(self) -> int:
        """Threads of each worker."""
        return worker_resources(self.workers, self.trainer)[0].threads

    @property
    def trainer(self) -> TrainerSettings:
        """The settings of a trainer, whose devices are those of all."""
        return next(iter(next(iter(self.recipes.values())).values())).trainer

    def seconds_of_run(self, case: str, encoding: str) -> float:
        """Return the estimated seconds of a run in one of the workers."""
        return seconds_of_run(self.recipes[case][encoding], self.data[case], self.threads)


def check_splits(results: Results) -> None:
    """Raise ValueError for finished runs with which runs on the present data cannot be compared."""
    if old := results.of_earlier_splits:
        raise ValueError(
            f"cases.{old[0]} has finished runs on an earlier split of its data: choose another output= (and storage=), "
            "where all runs are made again"
        )


def _checked(comparison: Comparison, configurations: CellConfigurations) -> CheckedCases:
    """Check everything before any training.

    Raises:
        ValueError: in one sentence.
    """
    recipes, data, lengths = {}, {}, {}
    for case in comparison.cases:
        own = {encoding: configurations.check(case, encoding) for encoding in comparison.encodings_of(case)}
        first, *others = own.values()
        if any(other.task is not first.task for other in others):
            raise ValueError(f"cases.{case}: all encodings must learn the same task")
        recipes[case], data[case] = own, prepared_data(first)
        lengths[case] = checked_lengths(comparison, case, first, data[case])
    return CheckedCases(recipes, data, lengths, comparison.workers)
