"""Tables and pictures of what each parameter of a sweep does."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import optuna
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.tri import Triangulation
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from poslab.report.exhibits import Picture, Table, new_figure
from poslab.tuning.axes import BEST, DEFAULT, OTHER, ends_of, place_of, scale_axis, value_at
from poslab.tuning.display import shown
from poslab.tuning.ledger import first_attempt
from poslab.tuning.objective import Objective
from poslab.tuning.space import Parameter
from poslab.tuning.study import SweepStudy


def importance_of(study: SweepStudy, objective: Objective) -> dict[str, float]:
    """The share of each parameter that all complete trials have; nothing where nothing varies."""
    values = {trial.values[0] for trial in study.get_trials(states=(TrialState.COMPLETE,), deepcopy=False)}
    if len(values) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="PedAnovaImportanceEvaluator computes")  # what is signed is small
        return optuna.importance.get_param_importances(study, target=lambda trial: _signed(trial, objective))


def importances(importance: Mapping[str, float], objective: Objective) -> Picture:
    """Which parameters matter, as bars."""
    figure = new_figure(height=1.2 + 0.4 * len(importance))
    axes = figure.subplots()
    names = sorted(importance, key=lambda name: importance[name])
    bars = axes.barh(names, [importance[name] for name in names], color=DEFAULT)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_xlim(0, 1.1)
    axes.set_xlabel(f"importance for {objective.label}")
    return Picture(
        "importance",
        "Which parameters matter",
        "How much of what tells the best trials from the others lies in each parameter; together 1. With few trials it "
        "is a rough guess, and it speaks of the ranges that were searched alone.",
        "Watanabe, Bansal, Hutter, “PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary "
        "Subspaces” (IJCAI 2023)",
        figure,
    )


def slices(
    complete: Sequence[FrozenTrial], parameters: Sequence[Parameter], objective: Objective, best: FrozenTrial
) -> Picture:
    """Every complete trial at its value of each parameter."""
    columns = min(3, len(parameters))
    rows = math.ceil(len(parameters) / columns)
    figure = new_figure(width=max(4.5, 3.2 * columns), height=3.0 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, parameter in zip(grid.flat, parameters, strict=False):
        _slice(axes, complete, parameter, best)
    for axes in list(grid.flat)[len(parameters) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel(objective.label, fontsize=8)
    handles = [
        *grid.flat[0].plot([], [], "o", color=OTHER, label="trial"),
        *grid.flat[0].plot([], [], "o", color=BEST, label="best"),
        *grid.flat[0].plot([], [], "D", color=DEFAULT, label="default"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return Picture(
        "slices",
        "Each parameter by itself",
        "Every complete trial at its value of each parameter. The others vary too: a cloud without a shape says that "
        "this parameter decides little beside them.",
        "",
        figure,
    )


def _slice(axes: Axes, complete: Sequence[FrozenTrial], parameter: Parameter, best: FrozenTrial) -> None:
    for trial in complete:
        if parameter.name in trial.params:
            is_default, is_best = first_attempt(trial) == 0, trial.number == best.number
            colour, mark = (DEFAULT if is_default else OTHER), ("D" if is_default else "o")
            x = place_of(parameter, trial.params[parameter.name])
            axes.plot([x], trial.values[:1], mark, color=BEST if is_best else colour, zorder=3 if is_best else 2)
    low, high = ends_of(parameter)
    axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    scale_axis(axes, parameter)


def contour(
    complete: Sequence[FrozenTrial], first: Parameter, second: Parameter, objective: Objective, best: FrozenTrial
) -> Picture:
    """Every complete trial at its values of two parameters, and the objective between them."""
    figure = new_figure(width=6.0, height=4.5)
    axes = figure.subplots()
    x = np.array([place_of(first, trial.params[first.name]) for trial in complete])
    y = np.array([place_of(second, trial.params[second.name]) for trial in complete])
    z = np.array([trial.values[0] for trial in complete])
    colours = "viridis" if objective.minimized else "viridis_r"
    norm = Normalize(z.min(), z.max())
    if len(set(zip(x, y, strict=True))) >= 4 and np.linalg.matrix_rank(np.stack([x - x[0], y - y[0]])) == 2:
        distinct = pd.DataFrame({"x": x, "y": y, "z": z}).groupby(["x", "y"], as_index=False).mean()
        scaled = Triangulation(_unit(distinct["x"].to_numpy()), _unit(distinct["y"].to_numpy())).triangles
        mesh = Triangulation(distinct["x"].to_numpy(), distinct["y"].to_numpy(), scaled)
        axes.tricontourf(mesh, distinct["z"].to_numpy(), levels=12, cmap=colours, norm=norm)
    points = axes.scatter(x, y, c=z, cmap=colours, norm=norm, edgecolors="black", linewidths=0.6)
    axes.plot(
        [place_of(first, best.params[first.name])],
        [place_of(second, best.params[second.name])],
        "*",
        color=BEST,
        markersize=14,
        markeredgecolor="black",
    )
    axes.use_sticky_edges = False
    axes.margins(0.06)
    scale_axis(axes, first)
    scale_axis(axes, second, of_x=False)
    figure.colorbar(points, ax=axes, label=objective.label)
    return Picture(
        "contour",
        f"{first.name} and {second.name} together",
        "Each point is a complete trial, the star the best one. The colour between them is drawn straight from one to "
        "the next: where points are few, it is a guess.",
        "",
        figure,
    )


def _unit(values: np.ndarray) -> np.ndarray:
    return np.asarray((values - values.min()) / ((values.max() - values.min()) or 1.0))


def parallel(complete: Sequence[FrozenTrial], parameters: Sequence[Parameter], objective: Objective) -> Picture:
    """Every complete trial as a line through all of its parameters."""
    figure = new_figure(width=max(5.0, 1.8 * (len(parameters) + 1)), height=4.2)
    axes = figure.subplots()
    names = [objective.label, *(parameter.name for parameter in parameters)]
    values = np.array(
        [[trial.values[0], *(place_of(p, trial.params[p.name]) for p in parameters)] for trial in complete]
    )
    norm = Normalize(values[:, 0].min(), values[:, 0].max())
    colours = colormaps["viridis" if objective.minimized else "viridis_r"]
    ranges = [(values[:, 0].min(), values[:, 0].max()), *map(ends_of, parameters)]
    worst_first = np.argsort(values[:, 0])[:: -1 if objective.minimized else 1]
    for row in values[worst_first]:
        heights = [(v - low) / (high - low) if high > low else 0.5 for v, (low, high) in zip(row, ranges, strict=True)]
        axes.plot(range(len(names)), heights, color=colours(norm(row[0])), linewidth=1.4)
    axes.plot(range(len(names)), heights, color=BEST, linewidth=2.2, label="best")
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, 1.14), frameon=False)
    axes.set_xticks(range(len(names)), [name.replace(" (", "\n(").replace("@", "\n@") for name in names], fontsize=8)
    axes.set_yticks([])
    axes.set_xlim(-0.3, len(names) - 0.7)
    axes.set_ylim(-0.08, 1.08)
    for i, (low, high) in enumerate(ranges):
        axes.axvline(i, color="0.8", linewidth=0.8, zorder=0)
        for end, y, place in ((low, -0.02, "top"), (high, 1.02, "bottom")):
            axes.text(i, y, value_at(None if i == 0 else parameters[i - 1], end), ha="center", va=place, fontsize=8)
    for side in ("left", "right", "top", "bottom"):
        axes.spines[side].set_visible(False)
    return Picture(
        "parallel",
        "All parameters side by side",
        "Each line is a complete trial, from its objective on the left through its parameters, each over the range "
        "that was searched; the better it is, the darker. Where the dark lines gather, a parameter wants to be.",
        "",
        figure,
    )


def by_choice(complete: Sequence[FrozenTrial], parameter: Parameter, objective: Objective) -> Table:
    """The best trial of each choice of a parameter."""
    assert isinstance(parameter.distribution, CategoricalDistribution)
    rows = []
    for choice in parameter.distribution.choices:
        trials = [t for t in complete if parameter.name in t.params and t.params[parameter.name] == choice]
        if trials:
            best = min(trials, key=lambda trial: _signed(trial, objective))
            others = {key: value for key, value in best.params.items() if key != parameter.name}
            settings = shown(others)
            rows.append(
                {
                    parameter.name: str(choice),
                    f"best {objective.label}": best.values[0],
                    "trial": best.number,
                    "complete trials": len(trials),
                    "with": settings,
                }
            )
    rows.sort(key=lambda row: row[f"best {objective.label}"], reverse=not objective.minimized)
    return Table(
        "by_" + "".join(c if c.isalnum() else "_" for c in parameter.name.lower()),
        f"The best of each {parameter.name}",
        "Each choice with the best that was found for its own parameters. A choice that was tried more often has had "
        "more luck: compare the numbers of trials.",
        "",
        pd.DataFrame(rows),
    )


def _signed(trial: FrozenTrial, objective: Objective) -> float:
    return trial.values[0] if objective.minimized else -trial.values[0]
