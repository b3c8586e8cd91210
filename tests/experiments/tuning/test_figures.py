"""The sections of a sweep's report, of studies whose values are made up."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, create_trial

from poslab.experiments.tuning.axes import BEST, DEFAULT, OTHER, tick_texts
from poslab.experiments.tuning.display import best_of
from poslab.experiments.tuning.figures import sections
from poslab.experiments.tuning.objective import Objective
from poslab.experiments.tuning.parameter_figures import slices
from poslab.experiments.tuning.space import Parameter
from poslab.experiments.tuning.study import TrialResult
from poslab.report.page import write_figures

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
    while (trial := study.take("worker")) is not None:
        values = sweep.search_space.suggest(trial)
        value = 2.0 if is_flat else 2.0 + (math.log10(values.get("encoding.base", 1000)) - 3) ** 2
        study.complete(trial, TrialResult([value] * len(sweep.all_objectives), {}))
    best = best_of(study.record(), sweep.all_objectives)
    assert best is not None
    drawn = sections(study, sweep, pd.DataFrame({"trial": range(n_trials)}), best, {})
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

    assert drawn == {over_time, "importance", "slices", "contour", "parallel"}
    assert dict(matplotlib.rcParams) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("space", "n_trials", "is_flat"), [(TWO_NUMBERS, 1, False), (TWO_NUMBERS, 6, True), (CONDITIONAL, 8, False)]
)
def test_where_nothing_can_be_said_nothing_is_drawn(space, n_trials, is_flat, tmp_path):
    drawn = figures_of(tmp_path, space, n_trials, is_flat)

    assert {"history", "slices"} <= drawn
    assert ("importance" in drawn) == (space is CONDITIONAL)
    assert "contour" not in drawn or is_flat


def trial_of(number: int, value: float, base: float) -> FrozenTrial:
    distribution = FloatDistribution(100, 1e6, log=True)
    trial = create_trial(params={"base": base}, distributions={"base": distribution}, values=[value])
    trial.number = number
    return trial


@pytest.mark.parametrize(
    ("best", "expected"),
    [
        (0, {"best, the default": BEST, "trial": OTHER}),
        (1, {"best": BEST, "default": DEFAULT, "trial": OTHER}),
    ],
)
def test_a_legend_has_the_marks_that_are_drawn(best, expected):
    trials = [trial_of(number, 1.0 + (number != best), 10.0 ** (number + 2)) for number in range(3)]
    parameter = Parameter("base", "base", trials[0].distributions["base"], {})
    figure = slices(trials, [parameter], Objective(("validation/loss",), "minimize"), trials[best]).figure
    (legend,) = figure.legends
    shown = {text.get_text(): line for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)}
    assert {label: line.get_color() for label, line in shown.items()} == expected
    drawn = {(line.get_marker(), line.get_color()) for line in figure.axes[0].lines if len(line.get_xdata())}
    assert {(line.get_marker(), line.get_color()) for line in shown.values()} == drawn


@pytest.mark.parametrize(
    ("numbers", "texts"),
    [
        ([100, 1000, 10000], ["100", "1,000", "10,000"]),
        ([1000, 1e5, 1e6], ["1e3", "1e5", "1e6"]),
        ([1e-4, 2.5e-3], ["1e−4", "2.5e−3"]),
        ([0.0, 0.25], ["0", "0.25"]),
    ],
)
def test_the_numbers_of_an_axis_have_one_form(numbers, texts):
    assert tick_texts(numbers) == texts
