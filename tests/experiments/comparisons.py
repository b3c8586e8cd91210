"""A comparison, its plan and made-up results, for the tests of this folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from poslab.experiments.comparison import Comparison
from poslab.experiments.mistakes import checked
from poslab.experiments.plan import CellPlan
from poslab.experiments.results import Results
from poslab.experiments.tables import RunResult
from poslab.experiments.tuned_points import points_of

COPYING = {"train": {"experiment": "small", "dataset": "copy"}}

TUNING = {"metric": "loss", "direction": "minimize", "space": {"optimizer.lr": [1e-3, 2e-3, 4e-3]}}


def comparison(**changes: Any) -> Comparison:
    """A comparison of three encodings on one case with two seeds, unless said otherwise."""
    node: dict[str, Any] = {
        "name": "question",
        "question": "Does it work?",
        "baseline": "rotary",
        "encodings": ["none", "rotary", {"name": "slow", "encoding": "rotary", "encoding.base": 1000}],
        "cases": {"copying": COPYING},
        "metrics": {"exact_match@beyond": {"direction": "maximize", "margin": 2}},
        "seeds": 2,
        "output": "outputs/comparisons/question",
    }
    return checked(Comparison(**{**node, **changes}))


def plan(**changes: Any) -> CellPlan:
    """The plan of such a comparison, at lengths 10 and 20, trained up to 10."""
    made = comparison(**changes)
    definitions = {f"{case}/{name}": "digest" for case, name in made.pairs}
    return CellPlan(made, definitions, {case: [10, 20] for case in made.cases}, dict.fromkeys(made.cases, 10))


MEANS = {"none": 60.0, "rotary": 40.0, "slow": 41.0}
GATE = {"metric": "exact_match@trained", "at_least": 99}


def results(
    means: Mapping[str, float] = MEANS,
    learned: Callable[[str], bool] = lambda name: True,
    noise: float = 1.0,
    diverged: Callable[[RunResult], bool] = lambda run: False,
    loss: Callable[[RunResult], float | None] = lambda run: abs(math.log2(run.point.get("optimizer.lr", 2e-3) / 2e-3)),
    **changes: Any,
) -> Results:
    """Results of five seeds that share most of their luck, with a value of each encoding.

    The loss is that of trials; None of a trial that failed.
    """
    made = comparison(**{"seeds": 5, "gate": GATE, **changes})
    rows = []
    for case, encoding in made.pairs:
        tuning = made.tuning_of(case)
        points = [] if tuning is None else points_of(tuning.space_of(encoding), tuning.trials_of(encoding), 0)
        own = RunResult(case, encoding, 1000, lengths=(10, 20), training_length=10, open_ended=("loss",))
        for point in points:
            trial = RunResult(**{**vars(own), "is_trial": True, "point": point, "lengths": ()})
            value = loss(trial)
            known = {"status": "failed"} if value is None else {"metrics": {"validation/loss": value}}
            rows.append(RunResult(**{**vars(trial), **known}))
        for seed in made.seed_list:
            luck = np.random.default_rng([seed, 1]).normal(0, 5 * noise)
            chance = np.random.default_rng([seed, *encoding.encode()]).normal(0, noise)
            exact = {10: 99.5 if learned(encoding) else 50.0, 20: means[encoding] + luck + chance}
            run = RunResult(
                **{
                    **vars(own),
                    "seed": seed,
                    "machine": "a machine",
                    "aggregate_lengths": True,
                    "batch": str(seed),
                    "weights": str(seed),
                    "directory": f"{made.output}/runs/{case}/{encoding}/seed_{seed}",
                    "metrics": {
                        "steps": 100,
                        "parameters": 10 + len(encoding),
                        "train/tokens_per_second": 50.0 + len(encoding),
                        "train/seconds": 3600.0,
                    },
                    "scores": {f"exact_match@{length}": value for length, value in exact.items()},
                }
            )
            lost = {"status": "diverged", "reason": "the loss is nan", "scores": {}}
            rows.append(RunResult(**{**vars(run), **lost}) if diverged(run) else run)
    return Results(made, rows)
