"""Checks of a comparison, and how it was made, as tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import pandas as pd

from poslab.experiments.metrics import in_words
from poslab.experiments.report.summary import OverCases
from poslab.experiments.results import Results
from poslab.experiments.statistics.over_cases import MIN_CASES
from poslab.experiments.tables import RunResult
from poslab.report.figures import Table
from poslab.report.text import listed

STATISTICS = {
    "differences": "of means over seeds, also where some seeds solve a task and others do not",
    "variance": "of seeds: the pair's own; with at least 5 seeds and 3 encodings, whose variances are equal by "
    "Bartlett's test (p of at least 0.25), raised to its mean with theirs, with up to twice the degrees of freedom",
    "intervals": "95%, for new seeds and new test items (crossed layout), else for new seeds (Student's t); for "
    "shares they end at -100 and 100",
    "test items": "examples, or documents; of a text with fewer than 10 documents, pieces of 1,024 tokens",
    "better, worse": "the difference is not zero at 5% after Holm's correction over the encodings of a case; next to "
    "the best, over all pairs (Bonferroni, or Tukey with the variance of the encodings)",
    "equivalent": "within the margin by two one-sided tests, so corrected",
    "inconclusive": "neither, with the smallest difference that these seeds would have found with a power of 80%",
}
"""Methods of verdicts, by their names."""

OF_ITEMS = {
    "differences": "of means over the same test items",
    "variance": "of the differences between items",
    "intervals": "95%, for new test items (Student's t); of items that are right or wrong, Agresti and Min (2005)",
    "inconclusive": "neither, with the smallest difference that these items would have found with a power of 80%",
}
"""Methods where models are given, instead of a sample of trainings."""

OF_TRAINING = {f"same {of}" for of in ("data order", "first weights", "number of steps", "training machine")}
OF_TRAINING |= {"split of the data"}
"""Checks that do not apply where models are given."""

CHANGES = {
    "batch": ("dataset.sequence_length", "dataset.batch_size", "experiment"),
    "weights": ("model", "size", "init_from", "experiment"),
    "steps": ("dataset.sequence_length", "dataset.batch_size", "trainer.max_steps", "experiment"),
}
"""Keys of contestants, or their groups, that change the first batch, the weights of a model, or the number of steps."""


def checks(results: Results) -> Table:
    """Return a row for each check and case, cases with the same outcome together: whether it passed, what was found."""
    cases = [case for case in results.comparison.cases if results.encodings(case)]
    outcomes: dict[tuple[str, bool, str], list[str]] = {}
    for case in cases:
        for outcome in _of(results, case):
            if outcome[0] in OF_TRAINING and results.are_given(case):
                continue
            outcomes.setdefault(outcome, []).append(case)
    if 1 < len(cases) < MIN_CASES and not results.comparison.has_sizes:
        known = f"{len(OverCases(results).cases)}, {MIN_CASES} are needed"
        outcomes["enough cases", False, known] = ["all"]
    order = list(dict.fromkeys(check for check, _, _ in outcomes))
    rows = []
    for outcome in sorted(outcomes, key=lambda outcome: (outcome[1], order.index(outcome[0]))):
        case = "each" if 1 < len(cases) == len(outcomes[outcome]) else listed(outcomes[outcome])
        rows.append({**dict(zip(("check", "holds", "found"), outcome, strict=True)), "case": case})
    caption = "A check that fails weakens the verdicts. Failed checks come first."
    return Table("checks", "Checks", caption, pd.DataFrame(rows, columns=["check", "holds", "found", "case"]))


def _of(results: Results, case: str) -> Iterator[tuple[str, bool, str]]:
    comparison = results.comparison
    runs = {name: results.runs(case, name) for name in results.encodings(case)}
    every = results.runs_of_case(case)
    finished = [run for run in every if not run.diverged]
    wanted = len(comparison.encodings_of(case)) * len(comparison.seeds_of(case))
    wanted = len(every) if results.exist_already else wanted  # runs that exist already need not have the same seeds
    yield "runs finished", len(every) == wanted, f"{len(every)} of {wanted}"
    same = {"batch": "data order", "weights": "first weights"}
    if case in comparison.continued:  # they are what each encoding has learned
        del same["weights"]
    for key, name in same.items():
        declared = comparison.declared(CHANGES[key])
        differing = _differing_seeds([run for run in every if run.encoding not in declared], key)
        missing = any(getattr(run, key) is None for run in every)
        shown = f"differs at seeds {differing}" if differing else "equal at every seed"
        if not differing and _differing_seeds(every, key):
            shown = f"differs as declared: {listed(declared)}"
        yield f"same {name}", not differing and not missing, "unknown" if missing else shown
    is_newest = case not in results.of_earlier_splits
    shown = "newest" if is_newest else "earlier: near-copies of training examples may be in the test"
    yield "split of the data", is_newest, shown
    known = sum(results.measured(run) is not None for run in finished)
    yield "item scores known", known == len(finished), f"{known} of {len(finished)} runs"
    declared = comparison.declared(CHANGES["steps"])
    steps = {(run.encoding, run.metrics.get("steps", 0)) for run in finished}
    numbers = [f"{n:,.0f}" for n in sorted({n for _, n in steps})]
    same_steps = {n for name, n in steps if name not in declared}
    shown = listed(numbers or ["none"])
    shown += f", as declared: {listed(declared)}" if len(same_steps) <= 1 < len(numbers) else ""
    yield "same number of steps", len(same_steps) <= 1, shown
    machines = sorted({run.machine for run in every})
    yield "same training machine", len(machines) == 1, "; ".join(machines)
    if timed := results.timed(case):
        machines = sorted({run.reading_machine for run in timed.values()})
        untimed = [name for name in runs if name not in timed]
        shown = "; ".join(machines) if not untimed else f"not timed: {listed(untimed)}"
        yield "same timing machine", len(machines) == 1 and not untimed, shown
    diverged = {
        (name, seed)
        for criterion in comparison.criteria(case)
        for name in results.reaching(case, criterion)
        for seed, value in results.values(case, criterion, name).items()
        if not math.isfinite(value)
    } | {(run.encoding, run.seed) for run in every if run.diverged}
    yield "no run diverged", not diverged, f"{len(diverged)} of {len(every)}" if diverged else "none"
    if comparison.gate_of(case) is not None:
        learned = {name: results.learned(case, name) for name in runs}
        behind = [f"{name} with {count} of {total} seeds" for name, (count, total) in learned.items() if count < total]
        yield "all seeds learned", not behind, listed(behind) if behind else "all"
    if comparison.tuning_of(case) is not None:
        tuned = results.tuned(case)
        lost = [name for name, choice in tuned.items() if not choice.has_value]
        yield "tuning found values", not lost, f"all trials of {listed(lost)} failed" if lost else "yes"
        counts = {name: len(choice.trials) for name, choice in tuned.items()}
        is_same = len(set(counts.values())) <= 1
        shown = "yes" if is_same else ", ".join(f"{name} {count}" for name, count in counts.items())
        yield "same number of trials", is_same, shown
        ends = [name for name, choice in tuned.items() if choice.at_the_edge and choice.has_value]
        yield "tuned inside the range", not ends, listed(ends) if ends else "none"


def _differing_seeds(runs: Sequence[RunResult], key: str) -> list[int]:
    """Return the seeds at which runs have different hashes."""
    pairs = {(run.seed, getattr(run, key)) for run in runs}
    return sorted(seed for seed, count in Counter(seed for seed, _ in pairs).items() if count > 1)


def methods(results: Results) -> Table:
    """Return how a comparison was made, as a paper needs it: a row for each part, equal cases together."""
    comparison = results.comparison
    are_given = all(map(results.are_given, comparison.cases))
    of_runs = "runs of the same seed (blocks)" if comparison.pairing else "none: runs are independent"
    rows: list[tuple[str, str, str]] = [
        (f"{comparison.heading}s", "all", ", ".join(comparison.choices_by_encoding)),
        ("pairs", "all", "the same test items" if are_given else of_runs),
        *(("budget", "all", f"{size:,} {unit} per run") for unit, size in (comparison.budget or {}).items()),
    ]
    by_case: dict[tuple[str, str], list[str]] = {}
    for case in comparison.cases:
        for part in _of_case(results, case):
            by_case.setdefault(part, []).append(case)
    every = list(comparison.cases)
    rows += [(name, "all" if of_part == every else listed(of_part), text) for (name, text), of_part in by_case.items()]
    rows += [(name, "all", text) for name, text in (STATISTICS | OF_ITEMS if are_given else STATISTICS).items()]
    return Table("methods", "Methods", "", pd.DataFrame(rows, columns=["part", "case", "value"]))


def _of_case(results: Results, case: str) -> Iterator[tuple[str, str]]:
    comparison, tuning = results.comparison, results.comparison.tuning_of(case)
    yield "seeds", ", ".join(map(str, comparison.seeds_of(case)))
    for criterion in comparison.criteria(case):
        margin = "" if criterion.margin is None else f", margin {criterion.margin:g}"
        yield "metric", f"{in_words(criterion)}{margin}"
    if (gate := comparison.gate_of(case)) is not None:
        bound = f"at least {gate.at_least:g}" if gate.at_least is not None else f"at most {gate.at_most:g}"
        yield "learned", f"{in_words(gate.criterion)} {bound} for more than half of the seeds"
    if tuning is None:
        yield "tuning", "none: every encoding has the hyperparameters of its files"
        return
    names = comparison.encodings_of(case)
    keys = {name: [key for key in tuning.of.get(name, {}) if key not in tuning.space] for name in names}
    seeds = listed(list(map(str, tuning.seed_list)))
    yield (
        "tuning",
        f"{tuning.trials_of(names[0])} trials of each encoding over {listed(list(tuning.space) or ['its own keys'])}, "
        f"{f'each the mean of seeds {seeds}' if len(tuning.seed_list) > 1 else f'on seed {seeds}'}; "
        f"{tuning.direction} validation {tuning.metric.removesuffix('_beyond')} "
        f"{'beyond' if tuning.metric.endswith('_beyond') else 'at'} the training length",
    )
    for name, own_keys in keys.items():
        if own_keys:
            yield "tuning", f"{name} also over {listed(own_keys)}"
    further = {name: len(choice.trials) - tuning.trials_of(name) for name, choice in results.tuned(case).items()}
    if beyond := [f"{name} {count}" for name, count in further.items() if count]:
        yield (
            "further trials",
            "beyond the end of a range where the best value was, else between the best value and its neighbours: "
            + ", ".join(beyond),
        )
