"""The command of a comparison: check it, supervise its workers, show progress, and write the results."""

from __future__ import annotations

from pathlib import Path

import optuna
from omegaconf import OmegaConf

from poslab.comparison.cells import CellPlan
from poslab.comparison.comparison import Comparison
from poslab.comparison.configurations import CellConfigurations
from poslab.comparison.definitions import identity, numbered
from poslab.comparison.display import Display, counts, plan_table
from poslab.comparison.lengths import checked_lengths
from poslab.comparison.results import write_results
from poslab.comparison.study import ComparisonStudy
from poslab.comparison.worker import Order
from poslab.io.terminal import HarmlessConsole
from poslab.io.writing import refuse_links, write_atomically
from poslab.pool.locks import fail_lost, one_at_a_time
from poslab.pool.shares import shares
from poslab.pool.supervise import supervise
from poslab.pool.workers import Workers
from poslab.runs.errors import RunInterruptedError, RunStoppedError
from poslab.runs.recipe import Recipe
from poslab.training.components import prepared_data
from poslab.tuning.output import claim, make
from poslab.tuning.storage import naming_storage, open_storage, quieten_optuna, url_of, without_password


def run_comparison(comparison: Comparison, conf: Path, dry_run: bool = False, report_only: bool = False) -> None:
    """Run or resume a comparison until all of its cells are finished, and write its results.

    Args:
        comparison: the comparison.
        conf: folder of the configurations.
        dry_run: print the cells, and train nothing.
        report_only: write the results of the cells that are finished, and train nothing.

    Raises:
        ValueError: for a mistake, before any training.
        RunInterruptedError: after a signal; the same command resumes.
        DiskError, ProcessDiedError: as `supervise`.
        RunStoppedError: if the storage cannot be used any more.
    """
    console = HarmlessConsole()
    quieten_optuna()
    configurations = CellConfigurations(conf, comparison)
    recipe, lengths, trained = _checked(comparison, configurations)
    output = Path(comparison.output)
    if output.is_dir():
        refuse_links(output.absolute())
    if comparison.storage is None:
        make(output)
    storage = open_storage(comparison)
    make(output)
    with naming_storage(comparison):
        with one_at_a_time(output):
            there = optuna.create_study(storage=storage, study_name=comparison.name, load_if_exists=True)
            definitions = numbered(there, comparison, configurations)
            study = ComparisonStudy(CellPlan(comparison, definitions, lengths, trained), storage)
            claim(output, identity(there), "runs")
            record = {**comparison.as_plain_data(), "storage": without_password(url_of(comparison))}
            write_atomically(output / "comparison.yaml", OmegaConf.to_yaml(OmegaConf.create(record)))
        console.print(f"{comparison.name}: {comparison.question}", soft_wrap=True)
        if dry_run:
            console.print(plan_table(study))
            return
        if not report_only:
            each, folder = shares(comparison.workers, recipe.trainer), output / "workers"
            order = Order(
                comparison=comparison.as_plain_data(),
                definitions=definitions,
                lengths=lengths,
                trained=trained,
                conf=str(conf),
            )
            workers = Workers(study, "poslab.comparison.worker", order, each, folder, comparison.hang_after)
            console.print(f"runs are kept in {output}", soft_wrap=True)
            fail_lost(study, folder)
            display = Display(console, study, comparison.workers)
            try:
                with display:
                    supervise(study, workers, comparison.lost_after, display.update)
            except (RunInterruptedError, RunStoppedError):
                console.print(f"{counts(study.record())}: resume with the same command", soft_wrap=True)
                raise
        with one_at_a_time(output):
            write_results(study, console)


def _checked(
    comparison: Comparison, configurations: CellConfigurations
) -> tuple[Recipe, dict[str, list[int]], dict[str, int]]:
    """Check everything before any training; return a recipe, and by case the lengths of the test and of training.

    Raises:
        ValueError: in one sentence.
    """
    lengths, trained = {}, {}
    for case in comparison.cases:
        recipes = [configurations.check(case, encoding) for encoding in comparison.choices_by_encoding]
        recipe = recipes[0]
        if any(other.task is not recipe.task for other in recipes):
            raise ValueError(f"cases.{case}: all encodings must learn the same task")
        data = prepared_data(recipe)
        trained[case] = data.longest_trained
        lengths[case] = checked_lengths(comparison, case, recipe.task, data)
    return recipe, lengths, trained
