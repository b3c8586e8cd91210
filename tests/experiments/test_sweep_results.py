"""The sections of a sweep's report, of studies whose values are made up."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import pytest

from poslab.experiments.display import best_of
from poslab.experiments.search import TrialResult
from poslab.experiments.sweep_command import report_sections, trials_frame
from poslab.report.figures import write_figures

from .sweeps import joined, small_sweep

TWO_NUMBERS = {
    "encoding.base": {"float": [100, 1e6], "log": True},
    "optimizer.lr": {"float": [1e-4, 1e-2], "log": True},
    "encoding": {"choices": ["rotary", "yarn"]},
}
CONDITIONAL = {
    "encoding": {"choices": ["rotary", "shaw"]},
    "encoding.base": {"float": [100, 1e6], "log": True, "when": {"encoding": "rotary"}},
    "encoding.max_distance": {"int": [2, 256], "log": True, "when": {"encoding": "shaw"}},
}
DEFAULTS = {"encoding.base": 10000.0, "optimizer.lr": 0.002, "encoding": "rotary"}
SPEED = {"mean": ["train/tokens_per_second"], "direction": "maximize"}


def figures_of(folder: Path, space: dict[str, Any], n_trials: int, is_flat: bool = False, **given: Any) -> set[str]:
    """Return the names of the PNG files of a study with this many complete trials."""
    sweep = small_sweep(folder, space=space, n_trials=n_trials, **given)
    study = joined(sweep, {name: DEFAULTS[name] for name in space if name in DEFAULTS})
    while (job := study.take("worker")) is not None:
        values = sweep.search_space.suggest(study.trial(job))
        value = 2.0 if is_flat else 2.0 + (math.log10(values.get("encoding.base", 1000)) - 3) ** 2
        study.complete(job, TrialResult([value] * len(sweep.all_objectives), {}))
    best = best_of(study.finished(), sweep.all_objectives)
    assert best is not None
    trials = study.finished()
    drawn = report_sections(study, trials, trials_frame(study, trials), best, pd.DataFrame())
    return {Path(file).stem for file in write_figures(folder / "figures", drawn) if str(file).endswith(".png")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objectives", "over_time"),
    [
        (["validation/loss"], "history"),
        ([{"mean": ["validation/loss"], "direction": "maximize"}], "history"),
        (["validation/loss", SPEED], "front"),
    ],
    ids=["minimize", "maximize", "two objectives"],
)
def test_a_sweep_of_several_parameters_has_every_figure(objectives, over_time, tmp_path):
    """And the style of Optuna stays in them."""
    before = dict(matplotlib.rcParams)

    drawn = figures_of(tmp_path, TWO_NUMBERS, 8, objectives=objectives)

    assert drawn == {over_time, "importance", "slices"}
    assert dict(matplotlib.rcParams) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("space", "n_trials", "is_flat"), [(TWO_NUMBERS, 1, False), (TWO_NUMBERS, 6, True), (CONDITIONAL, 8, False)]
)
def test_where_nothing_can_be_said_nothing_is_drawn(space, n_trials, is_flat, tmp_path):
    drawn = figures_of(tmp_path, space, n_trials, is_flat)

    assert {"history", "slices"} <= drawn
    assert ("importance" in drawn) == (space is CONDITIONAL)
