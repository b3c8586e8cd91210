"""Figures of the effect of each parameter of a sweep."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial

import numpy as np
import optuna
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import Normalize
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization.matplotlib import plot_contour, plot_param_importances

from poslab.experiments.tuning.axes import (
    BEST,
    DEFAULT,
    OTHER,
    drawn_by_optuna,
    ends_of,
    place_of,
    scale_axis,
    texts_at,
)
from poslab.experiments.tuning.display import shown
from poslab.experiments.tuning.objective import Objective
from poslab.experiments.tuning.space import Parameter
from poslab.experiments.tuning.study import SweepStudy
from poslab.experiments.tuning.trial_record import first_attempt
from poslab.report.figures import Plot, Table, new_figure, panel_grid


def importances(study: SweepStudy, objective: Objective) -> Plot | None:
    """Draw the importance of each parameter that all complete trials have; return None if no value varies."""
    if len({trial.values[0] for trial in study.get_trials(states=(TrialState.COMPLETE,), deepcopy=False)}) < 2:
        return None
    target = partial(_signed, objective=objective)
    with warnings.catch_warnings():
        # It warns that small targets count as good, which signed values satisfy.
        warnings.filterwarnings("ignore", message="PedAnovaImportanceEvaluator computes")
        importance = optuna.importance.get_param_importances(study, target=target)
        if not importance:
            return None
        draw = partial(plot_param_importances, study, target=target, target_name=objective.label)
        figure, _ = drawn_by_optuna(draw, width=7.0, height=1.6 + 0.4 * len(importance))
    return Plot(
        "importance",
        "Which parameters matter",
        "The share of each parameter in the difference between the best trials and the others; the sum is 1. With few "
        "trials it is a rough guess, and it holds only for the ranges that were searched.",
        figure,
        source="Watanabe, Bansal, Hutter, “PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary "
        "Subspaces” (IJCAI 2023)",
    )


def slices(
    complete: Sequence[FrozenTrial], parameters: Sequence[Parameter], objective: Objective, best: FrozenTrial
) -> Plot:
    """Draw every complete trial at its value of each parameter."""
    columns = min(3, len(parameters))
    width = max(4.5, 3.2 * columns)
    figure, grid = panel_grid(len(parameters), columns, width, height=3.0, margin=0.4, sharey=True)
    for axes, parameter in zip(grid.flat, parameters, strict=False):
        for trial in (trial for trial in complete if parameter.name in trial.params):
            x = place_of(parameter, trial.params[parameter.name])
            _, mark, colour = _mark(trial, best)
            axes.plot([x], trial.values[:1], mark, color=colour, markersize=8, zorder=3 if colour == BEST else 2)
        low, high = ends_of(parameter)
        axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
        scale_axis(axes, parameter)
    for axes in grid[:, 0]:
        axes.set_ylabel(objective.label, fontsize=8)
    marks = {_mark(trial, best) for trial in complete}
    handles = [
        grid.flat[0].plot([], [], mark, color=colour, markersize=8, label=label)[0]
        for label, mark, colour in sorted(marks)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return Plot(
        "slices",
        "Each parameter by itself",
        "Every complete trial at its value of each parameter. The others vary too: a cloud without a shape means that "
        "this parameter matters little beside them.",
        figure,
    )


def _mark(trial: FrozenTrial, best: FrozenTrial) -> tuple[str, str, str]:
    """Return the label, marker and colour of a trial."""
    is_default = first_attempt(trial) == 0
    if trial.number == best.number:
        return "best, the default" if is_default else "best", "*", BEST
    return ("default", "D", DEFAULT) if is_default else ("trial", "o", OTHER)


def contour(study: SweepStudy, first: Parameter, second: Parameter, objective: Objective, best: FrozenTrial) -> Plot:
    """Draw the complete trials at their values of two parameters, and the objective between them."""
    target = None if len(study.directions) == 1 else lambda trial: trial.values[0]
    draw = partial(plot_contour, study, [first.name, second.name], target=target, target_name=objective.label)
    figure, axes = drawn_by_optuna(draw, width=6.0, height=4.5)
    x, y = best.params[first.name], best.params[second.name]
    axes.plot(x, y, "*", color=BEST, markersize=14, markeredgecolor="black")
    return Plot(
        "contour",
        f"{first.name} and {second.name} together",
        "Each point is a complete trial, the star the best one. The colours between and beyond them are interpolated: "
        "where points are few, they are a guess.",
        figure,
    )


def parallel(complete: Sequence[FrozenTrial], parameters: Sequence[Parameter], objective: Objective) -> Plot:
    """Draw every complete trial as a line through all of its parameters."""
    figure = new_figure(width=max(5.0, 1.8 * (len(parameters) + 1)), height=4.2)
    axes = figure.subplots()
    names = [objective.label, *(parameter.name for parameter in parameters)]
    values = np.array([[t.values[0], *(place_of(p, t.params[p.name]) for p in parameters)] for t in complete])
    norm = Normalize(values[:, 0].min(), values[:, 0].max())
    colours = colormaps["viridis" if objective.minimized else "viridis_r"]
    ranges = [(values[:, 0].min(), values[:, 0].max()), *map(ends_of, parameters)]
    texts = [[f"{end:.4g}" for end in ranges[0]], *(texts_at(p, ends_of(p)) for p in parameters)]
    worst_first = np.argsort(values[:, 0])[:: -1 if objective.minimized else 1]
    for row in values[worst_first]:
        heights = [(v - low) / (high - low) if high > low else 0.5 for v, (low, high) in zip(row, ranges, strict=True)]
        axes.plot(range(len(names)), heights, color=colours(norm(row[0])), linewidth=1.4)
    axes.plot(range(len(names)), heights, color=BEST, linewidth=2.2, label="best")
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, 1.14), frameon=False)
    axes.set_xticks(range(len(names)), [name.replace(" (", "\n(").replace("@", "\n@") for name in names], fontsize=8)
    axes.set(yticks=[], xlim=(-0.3, len(names) - 0.7), ylim=(-0.08, 1.08))
    for i, ends in enumerate(texts):
        axes.axvline(i, color="0.8", linewidth=0.8, zorder=0)
        for end, y, place in zip(ends, (-0.02, 1.02), ("top", "bottom"), strict=True):
            axes.text(i, y, end, ha="center", va=place, fontsize=8)
    axes.spines[:].set_visible(False)
    return Plot(
        "parallel",
        "All parameters side by side",
        "Each line is a complete trial, from its objective on the left through its parameters, each over the range "
        "that was searched; darker is better. The places where dark lines gather are good values of a parameter.",
        figure,
    )


def by_choice(complete: Sequence[FrozenTrial], parameter: Parameter, objective: Objective) -> Table:
    """Return a table of the best trial of each choice of a parameter."""
    assert isinstance(parameter.distribution, CategoricalDistribution)
    rows = []
    for choice in parameter.distribution.choices:
        trials = [t for t in complete if parameter.name in t.params and t.params[parameter.name] == choice]
        if trials:
            best = min(trials, key=lambda trial: _signed(trial, objective))
            rows.append(
                {
                    parameter.name: str(choice),
                    f"best {objective.label}": best.values[0],
                    "trial": best.number,
                    "complete trials": len(trials),
                    "with": shown({key: value for key, value in best.params.items() if key != parameter.name}),
                }
            )
    rows.sort(key=lambda row: row[f"best {objective.label}"], reverse=not objective.minimized)
    return Table(
        "by_" + "".join(c if c.isalnum() else "_" for c in parameter.name.lower()),
        f"The best of each {parameter.name}",
        "Each choice with the best values found for its own parameters. A choice that was tried more often has had "
        "more luck: compare the numbers of trials.",
        pd.DataFrame(rows),
    )


def _signed(trial: FrozenTrial, objective: Objective) -> float:
    return trial.values[0] if objective.minimized else -trial.values[0]
