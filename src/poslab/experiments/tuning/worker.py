"""Worker process of a sweep: `python -m poslab.experiments.tuning.worker COMMAND`, its assignment on standard input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from poslab.experiments.pool.worker import run_worker

if TYPE_CHECKING:
    from optuna.trial import Trial

    from poslab.experiments.pool.work import Train
    from poslab.experiments.tuning.study import SweepStudy, TrialResult


class Order(TypedDict):
    """Settings of a worker: arguments of the `Sweep`, conf folder, seed of the sampler, and parameters of trial 0."""

    sweep: dict[str, Any]
    conf: str
    seed: int
    default: dict[str, Any]


def open_study(order: Order) -> tuple[SweepStudy, Train[Trial, TrialResult]]:
    """Return the study of an order, and a function that trains its trials."""
    from functools import partial
    from pathlib import Path

    from poslab.experiments.tuning.storage import open_storage
    from poslab.experiments.tuning.study import SweepStudy
    from poslab.experiments.tuning.sweep import Sweep
    from poslab.experiments.tuning.trial_configuration import TrialConfigurations
    from poslab.experiments.tuning.trial_run import train_trial

    sweep = Sweep(**order["sweep"])
    study = SweepStudy(sweep, open_storage(sweep), order["seed"], order["default"])
    return study, partial(train_trial, study, sweep, TrialConfigurations(Path(order["conf"]), sweep))


if __name__ == "__main__":
    run_worker(open_study)
