"""Figures of a sweep: the gain of tuning, its course, and the effect of each parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from poslab.experiments.tuning.axes import BEST, DEFAULT, OTHER
from poslab.experiments.tuning.objective import Objective
from poslab.experiments.tuning.parameter_figures import by_choice, contour, importances, parallel, slices
from poslab.experiments.tuning.study import SweepStudy
from poslab.experiments.tuning.sweep import Sweep
from poslab.experiments.tuning.trial_record import TrialRecord, default_trial
from poslab.report.figures import Plot, ReportFigure, Table, new_figure
from poslab.report.page import Section

MIN_TRIALS_FOR_IMPORTANCE = 4
"""Fewest complete trials for which importance is estimated."""


def sections(
    study: SweepStudy, sweep: Sweep, trials: pd.DataFrame, best: FrozenTrial, tested: Mapping[str, float]
) -> list[Section]:
    """Return the sections of a report on a settled study.

    Trials have one row for each attempt; `tested` are the test metrics of the best one by tag, empty if unknown.
    """
    record = study.record()
    complete = record.in_state(TrialState.COMPLETE)
    objective, several = sweep.all_objectives[0], len(sweep.all_objectives) > 1
    parameters = [p for p in sweep.search_space.parameters if any(p.name in trial.params for trial in complete)]
    choices = [p for p in parameters if isinstance(p.distribution, CategoricalDistribution)]
    worth: list[ReportFigure] = [_worth(complete, sweep.all_objectives, best)]
    if tested:
        worth.append(_test(best, tested))
    course = _front(front(study, record), complete, sweep.all_objectives) if several else _history(record, objective)
    worth.append(course)
    what: list[ReportFigure] = []
    if len(complete) >= MIN_TRIALS_FOR_IMPORTANCE and (importance := importances(study, objective)) is not None:
        what.append(importance)
    what.append(slices(complete, parameters, objective, best))
    shared = [p for p in parameters if all(p.name in trial.params for trial in complete)]
    varied = [p for p in shared if p not in choices and len({trial.params[p.name] for trial in complete}) > 1]
    if len(varied) >= 2 and len(complete) >= MIN_TRIALS_FOR_IMPORTANCE:
        what.append(contour(study, varied[0], varied[1], objective, best))
    if len(shared) >= 2:
        what.append(parallel(complete, shared, objective))
    what += [by_choice(complete, p, objective) for p in choices]
    columns = [name for name in trials.columns if not str(name).startswith(("train/", "memory/", "parameters"))]
    table = Table(
        "trials",
        "All trials",
        "One row for each attempt, in the order in which they were taken; trial 0 is the default. A pruned trial has "
        "only its last reported value.",
        trials[columns],
    )
    return [
        Section("What tuning was worth", sweep.question, worth),
        Section("What each parameter does", "All of it is on validation text.", what),
        Section("Trials", "", [table]),
    ]


def _worth(complete: Sequence[FrozenTrial], objectives: Sequence[Objective], best: FrozenTrial) -> Table:
    rows = []
    for name, trial in (("best", best), ("default", default_trial(complete))):
        if trial is not None:
            values = dict(zip([o.label for o in objectives], trial.values, strict=True))
            rows.append({"": name, "trial": trial.number, **values, **trial.params})
    return Table(
        "worth",
        "The best trial beside the default",
        "The default is the configuration without a search; "
        + " and ".join(f"{o.better} of {o.label} is better" for o in objectives)
        + ". Both are on validation text, where the best of many trials always looks a little better than it is.",
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
        "The only metrics on test text: of the best trial alone, once, after everything was chosen.",
        pd.DataFrame(rows),
    )


def _history(record: TrialRecord, objective: Objective) -> Plot:
    figure = new_figure()
    axes = figure.subplots()
    complete = record.in_state(TrialState.COMPLETE)
    pruned = [trial for trial in record.in_state(TrialState.PRUNED) if trial.values]
    numbers, values = [t.number for t in complete], [t.values[0] for t in complete]
    last_values = [t.values[0] for t in pruned]
    if pruned:
        axes.plot([t.number for t in pruned], last_values, "x", color=OTHER, label="pruned, its last value")
    axes.plot(numbers, values, "o", color=DEFAULT, label="complete")
    best_so_far = np.minimum.accumulate if objective.minimized else np.maximum.accumulate
    axes.step(numbers, best_so_far(values), where="post", color=BEST, label="best so far")
    if (default := default_trial(complete)) is not None:
        axes.axhline(default.values[0], color="black", linewidth=0.8, linestyle="--", label="default")
    axes.set(xlabel="trial", ylabel=objective.label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    room = 0.15 * (max(values) - min(values)) or 0.01
    low, high = min(values) - room, max(values) + room
    axes.set_ylim(low, high)  # a pruned trial may be far off
    if far := [t.number for t in pruned if not low <= t.values[0] <= high]:
        axes.plot(far, [high if objective.minimized else low] * len(far), "x", color=OTHER, clip_on=False)
    figure.legend(loc="outside lower center", ncols=4)
    return Plot(
        "history",
        "How the sweep went",
        "Each mark is a trial, in the order in which they began. The line falls, or rises, whenever one is better than "
        "all before it; where it stays flat, further trials did not help. Crosses at the edge lie beyond it.",
        figure,
    )


def front(study: SweepStudy, record: TrialRecord) -> list[FrozenTrial]:
    """Return the trials of the budget that no other beats in all objectives, by their first value."""
    numbers = {trial.number for trial in record.in_state(TrialState.COMPLETE)}
    return sorted((t for t in study.best_trials if t.number in numbers), key=lambda trial: trial.values[0])


def _front(front: Sequence[FrozenTrial], complete: Sequence[FrozenTrial], objectives: Sequence[Objective]) -> Plot:
    figure = new_figure(width=6.5, height=4.5)
    axes = figure.subplots()
    on_front = {trial.number for trial in front}
    rest = [trial for trial in complete if trial.number not in on_front]
    if rest:
        axes.plot([t.values[0] for t in rest], [t.values[1] for t in rest], "o", color=OTHER, label="trial")
    axes.plot([t.values[0] for t in front], [t.values[1] for t in front], "o-", color=BEST, label="Pareto front")
    if (default := default_trial(complete)) is not None:
        axes.plot(default.values[:1], default.values[1:2], "D", color=DEFAULT, label="default", zorder=3)
    for trial in front:
        axes.annotate(str(trial.number), trial.values[:2], textcoords="offset points", xytext=(5, 4), fontsize=8)
    axes.set_xlabel(f"{objectives[0].label} ({objectives[0].better} is better)")
    axes.set_ylabel(f"{objectives[1].label} ({objectives[1].better} is better)")
    figure.legend(loc="outside lower center", ncols=3)
    return Plot(
        "front",
        "What one objective costs in the other",
        "A trial on the front, labelled with its number, is one that no other beats in both objectives. The choice "
        "among them is yours.",
        figure,
    )
