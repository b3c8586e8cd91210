"""Tables and pictures of a sweep: what tuning was worth, how it went, and what each parameter does."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator
from matplotlib.tri import Triangulation
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from poslab.evaluation.exhibits import COLOURS, Exhibit, Picture, Table, new_figure
from poslab.evaluation.report import Section
from poslab.tuning.display import shown, shown_value
from poslab.tuning.ledger import Ledger, first_attempt
from poslab.tuning.objective import Objective
from poslab.tuning.space import Parameter
from poslab.tuning.study import SweepStudy
from poslab.tuning.sweep import Sweep

FEWEST_FOR_IMPORTANCE = 4
"""Complete trials below which nothing is said of importance."""

BEST, DEFAULT, OTHER = COLOURS[1], COLOURS[0], "0.55"


def sections(
    study: SweepStudy,
    sweep: Sweep,
    trials: pd.DataFrame,
    best: FrozenTrial,
    tested: Mapping[str, float],
) -> list[Section]:
    """The sections of a report.

    Args:
        study: a settled study.
        sweep: its sweep.
        trials: a row an attempt.
        best: the best trial.
        tested: its test figures by tag; empty where they are not known.
    """
    ledger = study.ledger()
    complete = ledger.in_state(TrialState.COMPLETE)
    objective, several = sweep.all_objectives[0], len(sweep.all_objectives) > 1
    parameters = [p for p in sweep.search_space.parameters if any(p.name in trial.params for trial in complete)]
    worth: list[Exhibit] = [_worth(complete, sweep.all_objectives, best)]
    if tested:
        worth.append(_test(best, tested))
    if several:
        worth.append(_front(front(study, ledger), complete, sweep.all_objectives))
    else:
        worth.append(_history(ledger, objective))
    what: list[Exhibit] = []
    if len(complete) >= FEWEST_FOR_IMPORTANCE and (importance := _importance(study, objective)):
        what.append(_importances(importance, objective))
    what.append(_slices(complete, parameters, objective, best))
    numeric = [p for p in parameters if not _is_categorical(p) and all(p.name in t.params for t in complete)]
    if len(numeric) >= 2 and len(complete) >= FEWEST_FOR_IMPORTANCE:
        what.append(_contour(complete, numeric[0], numeric[1], objective, best))
    shared = [p for p in parameters if all(p.name in trial.params for trial in complete)]
    if len(shared) >= 2:
        what.append(_parallel(complete, shared, objective))
    what += [_by_choice(complete, p, objective) for p in parameters if _is_categorical(p)]
    table = Table(
        "trials",
        "All trials",
        "One row an attempt, in the order in which they were taken; trial 0 is the default. A pruned trial shows its "
        "last reported value alone.",
        "",
        trials[
            [column for column in trials.columns if not str(column).startswith(("train/", "memory/", "parameters"))]
        ],
    )
    return [
        Section("What tuning was worth", sweep.question, worth),
        Section("What each parameter does", "All of it is on validation text.", what),
        Section("Trials", "", [table]),
    ]


def _worth(complete: Sequence[FrozenTrial], objectives: Sequence[Objective], best: FrozenTrial) -> Table:
    default = next((trial for trial in complete if first_attempt(trial) == 0), None)
    rows = []
    for name, trial in (("best", best), ("default", default)):
        if trial is not None:
            values = dict(zip([o.label for o in objectives], trial.values, strict=True))
            rows.append({"": name, "trial": trial.number, **values, **trial.params})
    return Table(
        "worth",
        "The best trial beside the default",
        "The default is what the configuration has without a search; "
        + " and ".join(f"{'less' if o.minimized else 'more'} of {o.label} is better" for o in objectives)
        + ". Both are on validation text, where the best of many trials always looks a little better than it is.",
        "",
        pd.DataFrame(rows),
    )


def _test(best: FrozenTrial, tested: Mapping[str, float]) -> Table:
    lengths = sorted({int(tag.partition("@")[2]) for tag in tested if "@" in tag})
    names = [tag.removeprefix("test/") for tag in tested if "@" not in tag]
    rows = [
        {"length": length, **{name.replace("_", " "): tested.get(f"test/{name}@{length}") for name in names}}
        for length in lengths
    ]
    return Table(
        "test",
        f"Test of trial {best.number}",
        "The only figures on test text: of the best trial alone, once, after everything was chosen.",
        "",
        pd.DataFrame(rows),
    )


def _history(ledger: Ledger, objective: Objective) -> Picture:
    figure = new_figure()
    axes = figure.subplots()
    complete, pruned = ledger.in_state(TrialState.COMPLETE), ledger.in_state(TrialState.PRUNED)
    pruned = [trial for trial in pruned if trial.values]
    axes.plot(
        [t.number for t in pruned], [t.values[0] for t in pruned], "x", color=OTHER, label="pruned, its last value"
    )
    axes.plot([t.number for t in complete], [t.values[0] for t in complete], "o", color=DEFAULT, label="complete")
    best_so_far = np.minimum.accumulate if objective.minimized else np.maximum.accumulate
    numbers = [t.number for t in complete]
    axes.step(numbers, best_so_far([t.values[0] for t in complete]), where="post", color=BEST, label="best so far")
    default = next((t for t in complete if first_attempt(t) == 0), None)
    if default is not None:
        axes.axhline(default.values[0], color="black", linewidth=0.8, linestyle="--", label="default")
    axes.set_xlabel("trial")
    axes.set_ylabel(objective.label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if complete:  # a pruned trial can have been very far off
        values = [t.values[0] for t in complete]
        room = 0.15 * (max(values) - min(values)) or 0.01
        low, high = min(values) - room, max(values) + room
        far = [t for t in pruned if not low <= t.values[0] <= high]
        axes.set_ylim(low, high)
        if far:
            edge = high if objective.minimized else low
            axes.plot([t.number for t in far], [edge] * len(far), "x", color=OTHER, clip_on=False)
    figure.legend(loc="outside lower center", ncols=4)
    return Picture(
        "history",
        "How the sweep went",
        "Each mark is a trial, in the order in which they began. The line falls, or rises, whenever one is better than "
        "all before it: where it stays flat, further trials brought nothing. Crosses at the edge lie beyond it.",
        "",
        figure,
    )


def _importance(study: SweepStudy, objective: Objective) -> dict[str, float]:
    """The share of each parameter that all complete trials have; nothing where nothing varies."""
    values = {trial.values[0] for trial in study.get_trials(states=(TrialState.COMPLETE,), deepcopy=False)}
    if len(values) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="PedAnovaImportanceEvaluator computes")  # what is signed is small
        return optuna.importance.get_param_importances(study, target=lambda trial: _signed(trial, objective))


def _signed(trial: FrozenTrial, objective: Objective) -> float:
    return trial.values[0] if objective.minimized else -trial.values[0]


def _importances(importance: Mapping[str, float], objective: Objective) -> Picture:
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


def _slices(
    complete: Sequence[FrozenTrial], parameters: Sequence[Parameter], objective: Objective, best: FrozenTrial
) -> Picture:
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
            x = _place(parameter, trial.params[parameter.name])
            axes.plot([x], trial.values[:1], mark, color=BEST if is_best else colour, zorder=3 if is_best else 2)
    low, high = _ends(parameter)
    axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    _scale(axes, parameter)


def _place(parameter: Parameter, value: Any) -> float:
    """Where a value stands on an axis: choices at whole numbers, logarithms where the range is logarithmic."""
    distribution = parameter.distribution
    if isinstance(distribution, CategoricalDistribution):
        return float(distribution.to_internal_repr(value))
    return math.log10(value) if getattr(distribution, "log", False) else float(value)


def _ends(parameter: Parameter) -> tuple[float, float]:
    """Where the searched values begin and end on an axis, which is never a point."""
    places = [_place(parameter, end) for end in parameter.ends]
    return (min(places), max(places)) if min(places) < max(places) else (min(places) - 0.5, max(places) + 0.5)


def _scale(axes: Axes, parameter: Parameter, of_x: bool = True) -> None:
    """Ticks and name of an axis for a parameter."""
    axis = axes.xaxis if of_x else axes.yaxis
    distribution = parameter.distribution
    if isinstance(distribution, CategoricalDistribution):
        axis.set_ticks(range(len(distribution.choices)), [str(choice) for choice in distribution.choices])
        if of_x and sum(len(str(choice)) for choice in distribution.choices) > 24:
            axes.tick_params(axis="x", rotation=30)
    elif getattr(distribution, "log", False):
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        ticks = _logarithmic_ticks(distribution.low, distribution.high)
        axis.set_ticks([math.log10(tick) for tick in ticks], [f"{tick:,g}" for tick in ticks])
    axis.set_label_text(parameter.name, fontsize=9)


def _logarithmic_ticks(low: float, high: float) -> list[float]:
    """Round numbers of a range: powers of ten, and between them 2 and 5 where they would be few."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if high / low >= 1000 else (1, 2, 5)
    return [step * 10.0**exponent for exponent in exponents for step in steps if low <= step * 10.0**exponent <= high]


def _contour(
    complete: Sequence[FrozenTrial], first: Parameter, second: Parameter, objective: Objective, best: FrozenTrial
) -> Picture:
    figure = new_figure(width=6.0, height=4.5)
    axes = figure.subplots()
    x = np.array([_place(first, trial.params[first.name]) for trial in complete])
    y = np.array([_place(second, trial.params[second.name]) for trial in complete])
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
        [_place(first, best.params[first.name])],
        [_place(second, best.params[second.name])],
        "*",
        color=BEST,
        markersize=14,
        markeredgecolor="black",
    )
    axes.use_sticky_edges = False
    axes.margins(0.06)
    _scale(axes, first)
    _scale(axes, second, of_x=False)
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


def _parallel(complete: Sequence[FrozenTrial], parameters: Sequence[Parameter], objective: Objective) -> Picture:
    figure = new_figure(width=max(5.0, 1.8 * (len(parameters) + 1)), height=4.2)
    axes = figure.subplots()
    names = [objective.label, *(parameter.name for parameter in parameters)]
    values = np.array([[trial.values[0], *(_place(p, trial.params[p.name]) for p in parameters)] for trial in complete])
    norm = Normalize(values[:, 0].min(), values[:, 0].max())
    colours = colormaps["viridis" if objective.minimized else "viridis_r"]
    ranges = [(values[:, 0].min(), values[:, 0].max()), *map(_ends, parameters)]
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
            axes.text(i, y, _named(None if i == 0 else parameters[i - 1], end), ha="center", va=place, fontsize=8)
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


def _named(parameter: Parameter | None, place: float) -> str:
    if parameter is None:
        return f"{place:.4g}"
    distribution = parameter.distribution
    if isinstance(distribution, CategoricalDistribution):
        return str(distribution.choices[round(place)])
    return shown_value(float(10**place if getattr(distribution, "log", False) else place))


def _by_choice(complete: Sequence[FrozenTrial], parameter: Parameter, objective: Objective) -> Table:
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


def front(study: SweepStudy, ledger: Ledger) -> list[FrozenTrial]:
    """The trials of the budget that no other beats in everything, by their first value."""
    numbers = {trial.number for trial in ledger.in_state(TrialState.COMPLETE)}
    return sorted((t for t in study.best_trials if t.number in numbers), key=lambda trial: trial.values[0])


def _front(front: Sequence[FrozenTrial], complete: Sequence[FrozenTrial], objectives: Sequence[Objective]) -> Picture:
    figure = new_figure(width=6.5, height=4.5)
    axes = figure.subplots()
    on_front = {trial.number for trial in front}
    rest = [trial for trial in complete if trial.number not in on_front]
    axes.plot([t.values[0] for t in rest], [t.values[1] for t in rest], "o", color=OTHER, label="trial")
    axes.plot([t.values[0] for t in front], [t.values[1] for t in front], "o-", color=BEST, label="Pareto front")
    default = next((trial for trial in complete if first_attempt(trial) == 0), None)
    if default is not None:
        axes.plot(default.values[:1], default.values[1:2], "D", color=DEFAULT, label="default", zorder=3)
    for trial in front:
        axes.annotate(str(trial.number), trial.values[:2], textcoords="offset points", xytext=(5, 4), fontsize=8)
    axes.set_xlabel(f"{objectives[0].label} ({'less' if objectives[0].minimized else 'more'} is better)")
    axes.set_ylabel(f"{objectives[1].label} ({'less' if objectives[1].minimized else 'more'} is better)")
    figure.legend(loc="outside lower center", ncols=3)
    return Picture(
        "front",
        "What one objective costs in the other",
        "A trial on the front is one that no other beats in everything; its number stands beside it. Which of them is "
        "best is for you to say.",
        "",
        figure,
    )


def _is_categorical(parameter: Parameter) -> bool:
    return isinstance(parameter.distribution, CategoricalDistribution)
