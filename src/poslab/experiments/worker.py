"""A worker process of a comparison: `python -m poslab.experiments.worker COMMAND`, its assignment on standard input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from poslab.experiments.pool.worker import run_worker

if TYPE_CHECKING:
    from optuna.trial import Trial

    from poslab.experiments.cells import CellResult
    from poslab.experiments.pool.work import Train
    from poslab.experiments.study import ComparisonStudy


class Order(TypedDict):
    """Settings of a worker: the plan as plain data, and the folder of configurations."""

    plan: dict[str, Any]
    conf: str


def open_study(order: Order) -> tuple[ComparisonStudy, Train[Trial, CellResult]]:
    """Return the study of an order, and a function that trains its cells."""
    from functools import partial
    from pathlib import Path

    from poslab.experiments.cell_run import train_cell
    from poslab.experiments.comparison import Comparison
    from poslab.experiments.configurations import CellConfigurations
    from poslab.experiments.plan import CellPlan
    from poslab.experiments.study import ComparisonStudy
    from poslab.experiments.tuning.storage import open_storage

    comparison = Comparison(**order["plan"]["comparison"])
    plan = CellPlan(**{**order["plan"], "comparison": comparison})
    study = ComparisonStudy(plan, open_storage(comparison))
    return study, partial(train_cell, study, CellConfigurations(Path(order["conf"]), comparison))


if __name__ == "__main__":
    run_worker(open_study)
