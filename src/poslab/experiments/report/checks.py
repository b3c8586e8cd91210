"""Checks of a comparison: what must hold for the differences to be those of the encodings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import pandas as pd

from poslab.experiments.results import Results
from poslab.experiments.tuned_points import at_an_end
from poslab.report.figures import Table
from poslab.report.sentences import listed


def checks(results: Results) -> Table:
    """Return a row for each check and case, cases with the same outcome together: whether it holds, what was found."""
    cases = [case for case in results.comparison.cases if results.encodings(case)]
    outcomes: dict[tuple[str, bool, str], list[str]] = {}
    for case in cases:
        for outcome in _of(results, case):
            outcomes.setdefault(outcome, []).append(case)
    order = list(dict.fromkeys(check for check, _, _ in outcomes))
    rows = [
        {"check": check, "holds": holds, "found": found, "case": "all" if own == cases else listed(own)}
        for (check, holds, found), own in sorted(outcomes.items(), key=lambda one: (one[0][1], order.index(one[0][0])))
    ]
    caption = "A check that does not hold weakens what is said above. Those that do not hold come first."
    return Table("checks", "Checks", caption, pd.DataFrame(rows))


def _of(results: Results, case: str) -> Iterator[tuple[str, bool, str]]:
    runs = {name: results.runs(case, name) for name in results.encodings(case)}
    every = [run for own in runs.values() for run in own.values()]
    wanted = len(results.comparison.encodings_of(case)) * len(results.comparison.seed_list)
    wanted = len(every) if results.places else wanted  # runs that exist already need not have the same seeds
    yield "all runs are finished", len(every) == wanted, f"{len(every)} of {wanted}"
    alike = {"batch": "data order", "weights": "first shared weights"}
    if case in results.comparison.continued:  # they are those that each encoding has learned
        del alike["weights"]
    for what, name in alike.items():
        pairs = {seed: {own[seed][1].start.get(what) for own in runs.values() if seed in own} for seed in _seeds(runs)}
        differing = [seed for seed, found in pairs.items() if len(found) > 1]
        missing = any(None in found for found in pairs.values())
        shown = "unknown" if missing else f"differs at seeds {differing}" if differing else "equal at every seed"
        yield f"same {name} for the same seed", not differing and not missing, shown
    is_present = case not in results.of_earlier_splits
    yield "data is split as it is now", is_present, "yes" if is_present else "some runs have an earlier split"
    known = [results.measured(cell) is not None for cell, result in every if not result.diverged]
    here = f"{sum(known)} of {len(known)} runs"
    elsewhere = (
        "the others are on disks that this machine does not share, damaged or changed: intervals are over seeds alone"
    )
    yield "scores of test items are known", all(known), here if all(known) else f"{here}; {elsewhere}"
    steps = sorted({result.metrics.get("steps", 0) for _, result in every if not result.diverged})
    yield "same number of steps", len(steps) <= 1, listed([f"{n:,.0f}" for n in steps]) if steps else "none"
    machines = sorted({result.machine for _, result in every})
    yield "same machine, for speeds of training", len(machines) == 1, "; ".join(machines)
    if (speeds := results.speeds.get(case)) is not None:
        untimed = [name for name in runs if name not in speeds.runs]
        found = f"{listed(untimed)} not timed" if untimed else speeds.machine
        yield "same machine, for speeds at each length", not untimed, found
    diverged = {
        (name, seed)
        for criterion in results.comparison.criteria(case)
        for name in results.reaching(case, criterion)
        for seed, value in results.values(case, criterion, name).items()
        if not math.isfinite(value)
    } | {(name, seed) for name, own in runs.items() for seed, (_, result) in own.items() if result.diverged}
    yield "no run diverged", not diverged, f"{len(diverged)} of {len(every)}" if diverged else "none"
    if results.comparison.gate_of(case) is not None:
        learned = {name: results.learned(case, name) for name in runs}
        behind = [f"{name} with {count} of {total} seeds" for name, (count, total) in learned.items() if count < total]
        yield "all seeds have learned the task", not behind, listed(behind) if behind else "all"
    if results.comparison.tuning is not None:
        tuned = results.tuned(case)
        lost = [name for name, choice in tuned.items() if not choice.found]
        yield "every tuning found a value", not lost, f"all trials of {listed(lost)} failed" if lost else "yes"
        ends = at_an_end(tuned)
        yield "no tuned value at an end of its range", not ends, listed(ends) if ends else "none"


def _seeds(runs: Mapping[str, Mapping[int, object]]) -> list[int]:
    return sorted({seed for own in runs.values() for seed in own})
