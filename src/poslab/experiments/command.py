"""The command of a comparison: check it, supervise its workers, show progress, and write the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from poslab.data.run_data import RunData
from poslab.experiments.collect import read_results, results_of_cells, write_tables
from poslab.experiments.comparison import Comparison
from poslab.experiments.configurations import (
    CellConfigurations,
    check_comparable,
    check_held_out,
    checked_lengths,
    with_counts,
)
from poslab.experiments.display import ComparisonDisplay, plan_table
from poslab.experiments.existing import results_of_runs
from poslab.experiments.jobs import one_at_a_time
from poslab.experiments.plan import CellPlan, ComparisonJobs, identity_of, ledger_of
from poslab.experiments.report.tables import power_table
from poslab.experiments.report.write import Needs, print_recommendations, print_table, write
from poslab.experiments.results import Results
from poslab.experiments.speed import with_kept_speeds, with_speeds
from poslab.experiments.storage import claim, naming_storage, open_output, quieten_optuna
from poslab.experiments.tables import RUNS, read_runs
from poslab.experiments.workers import Workers, worker_resources
from poslab.io.terminal import HarmlessConsole
from poslab.runs.recipe import Recipe
from poslab.training.components import prepared_data
from poslab.training.duration import seconds_of_run

EXISTING = "existing runs"
"""Owner of a directory with the results of existing runs, instead of the identity of a study."""


class Publication:
    """The report of results, and a recommendation.

    Args:
        typed: the command, for the report.
        needs: arguments of `Needs`; None prints no recommendation.
        figure_width: in inches of plots as PDF; None is the width of the page.
    """

    def __init__(self, typed: str, needs: Mapping[str, Any] | None = None, figure_width: float | None = None) -> None:
        self.typed, self.figure_width = typed, figure_width
        self.needs = None if needs is None else Needs(**needs)

    def write(self, results: Results, console: HarmlessConsole) -> None:
        """Write the report, and print the recommendation."""
        write(results, console, self.typed, self.figure_width)
        if self.needs is not None:
            print_recommendations(console, results, self.needs)


def run_comparison(
    comparison: Comparison,
    conf: Path,
    publication: Publication,
    dry_run: bool = False,
    report_only: bool = False,
    pilot: str | None = None,
) -> None:
    """Run or resume a comparison until all of its cells are finished, and write its results.

    Args:
        dry_run: print the cells, and train nothing.
        report_only: write the results of the cells that are finished, and train nothing.
        pilot: with `dry_run`, folder with the tables of an earlier comparison, for the deviation of seeds.

    Raises:
        ValueError: for a mistake, before any training.
        RunInterruptedError: after a signal; the same command resumes.
        DiskError, ProcessDiedError: as `supervise`.
        RunStoppedError: if the storage cannot be used any more.
    """
    console = HarmlessConsole()
    quieten_optuna()
    comparison = with_counts(comparison, conf)
    configurations = CellConfigurations(conf, comparison)
    recipes, data = _checked(comparison, configurations)
    firsts = {case: of_case[comparison.baseline] for case, of_case in recipes.items()}
    of_baseline = {case: of_case[comparison.baseline] for case, of_case in data.items()}
    lengths = {case: checked_lengths(comparison, case, firsts[case], of_baseline[case]) for case in comparison.cases}
    trained = {case: of_case.longest_trained for case, of_case in of_baseline.items()}
    resources = worker_resources(comparison.workers, next(iter(firsts.values())).trainer)
    output = Path(comparison.output)
    with naming_storage(comparison, is_database=comparison.storage is not None):
        open_output(output)
        ledger = ledger_of(comparison)
        with one_at_a_time(output):
            digests = {f"{case}/{name}": configurations.definition(case, name) for case, name in comparison.pairs}
            plan = CellPlan(comparison, digests, lengths, trained)
            jobs = ComparisonJobs(plan, ledger)
            claim(output, identity_of(ledger, comparison), "runs")
            if (output / RUNS).is_file() and (rows := read_runs(output)):
                jobs.enter(rows)
                if not jobs.records():  # its tables would be replaced
                    raise ValueError(
                        f"output={output} has tables of other settings, or of an earlier version: give this comparison "
                        "its own directory"
                    )
        if not report_only:
            check_splits(results_of_cells(plan, jobs.results(), firsts))
        if dry_run:
            threads = resources[0].threads
            console.print(plan_table(jobs, lambda case, x: seconds_of_run(recipes[case][x], data[case][x], threads)))
            earlier = [] if pilot is None else [read_results(Path(pilot))]
            _print_power(console, comparison, [results_of_cells(plan, jobs.results(), firsts), *earlier])
            return
        if not report_only:
            order = {"plan": asdict(plan), "conf": str(conf)}
            workers = Workers(jobs, order, resources, output / "workers")
            console.print(f"runs are kept in {output}", soft_wrap=True)
            jobs.fail_lost(workers.directory)
            ComparisonDisplay(console, jobs, comparison.workers).supervise(workers)
        with one_at_a_time(output):
            results = results_of_cells(plan, jobs.results(), firsts)
            results = with_kept_speeds(results) if report_only else with_speeds(results, console)
            write_tables(results, output)
            publication.write(results, console)


def compare_runs(runs: Sequence[str], given: Mapping[str, Any], conf: Path, publication: Publication) -> None:
    """Compare runs that exist already, as `results_of_runs` does, and write the results.

    ValueError as of `results_of_runs`, or if the output belongs to a comparison that trains its runs, or a sweep.
    """
    console = HarmlessConsole()
    if "output" in given:  # before tests, which may take long
        open_output(Path(str(given["output"])))
        claim(Path(str(given["output"])), EXISTING, "runs")
    results = results_of_runs(runs, given, conf, console)
    output = Path(results.comparison.output)
    open_output(output)
    with one_at_a_time(output):
        claim(output, EXISTING, "runs")
        results = with_speeds(results, console)
        write_tables(results, output)
        publication.write(results, console)


def report_tables(folder: Path, publication: Publication, baseline: str | None = None) -> None:
    """Write the report of results in a folder of tables, which need neither data nor models.

    They are compared with another baseline if one is given. ValueError is raised as of `read_results`, for a baseline
    that is not among the encodings, or if the folder has a link.
    """
    open_output(folder)
    results = read_results(folder, baseline)
    with one_at_a_time(folder):
        publication.write(results, HarmlessConsole())


def _print_power(console: HarmlessConsole, comparison: Comparison, pilots: Sequence[Results]) -> None:
    """Print which differences the seeds can find, and how many seeds the margins need."""
    table = power_table(comparison, pilots)
    if "deviation" in table:
        print_table(console, "what the seeds can find (power 80%)", table)
        if len(pilots) > 1:
            folder = pilots[-1].comparison.output
            console.print(f"Where no runs are finished, deviations are from {folder}, perhaps of other data or sizes.")
        console.print("A dash: no number of seeds is enough, since test items are too few.")
    if not table.empty and ("deviation" not in table or table["deviation"].isna().any()):
        console.print(
            "How many seeds a margin needs is unknown without pilot=DIR, the tables of an earlier comparison such as "
            "results/NAME, or a deviation next to the margin."
        )


def check_splits(results: Results) -> None:
    """Raise ValueError for finished runs with which runs on the present data cannot be compared."""
    if earlier := results.of_earlier_splits:
        raise ValueError(
            f"cases.{earlier[0]} has finished runs on an earlier split of its data: choose another output= (and "
            "storage=), where all runs are made again"
        )


def _checked(
    comparison: Comparison, configurations: CellConfigurations
) -> tuple[dict[str, dict[str, Recipe]], dict[str, dict[str, RunData]]]:
    """Check all configurations; return their recipes and their data, by case and encoding."""
    recipes = {
        case: {encoding: configurations.check(case, encoding) for encoding in comparison.encodings_of(case)}
        for case in comparison.cases
    }
    for case, of_case in recipes.items():
        check_comparable(comparison, case, of_case)
    data: dict[str, dict[str, RunData]] = {}
    for case, of_case in recipes.items():
        data[case] = {}
        by_lengths: dict[str, RunData] = {}
        for name, recipe in of_case.items():
            lengths = str([recipe.config["dataset"].get(key) for key in ("sequence_length", "length_multiples")])
            if lengths not in by_lengths:
                by_lengths[lengths] = prepared_data(recipe)
            data[case][name] = by_lengths[lengths]
        check_held_out(comparison, case, data[case])
    return recipes, data
