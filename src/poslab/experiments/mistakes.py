"""Mistakes in a comparison that its types do not show, each in one sentence that starts with the key."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from poslab.arguments import nearest
from poslab.configuration.command_line import groups, key_of
from poslab.experiments.comparison import Comparison
from poslab.experiments.criteria import COSTS
from poslab.experiments.published import predictions_of, published_results
from poslab.experiments.storage_url import mistake_in_storage
from poslab.experiments.tuned_points import MAX_REFINED, points_of
from poslab.report.text import file_name

OF_A_RUN = ("trust", "seed", "resume")
"""Keys that belong to a single run, or to the command line, as Hydra's keys do."""

MAKES_CASES = ("encoding", "dataset", "experiment")
"""Groups that a comparison varies, or that make its cases, so that no tuning may."""

SIZES_OF_DATA = ("dataset.sequence_length", "dataset.train_lengths", "dataset.batch_size")
AROUND_TRAINING = ("dataset.num_workers", "dataset.cache_dir", "dataset.length_multiples")
"""Keys of the data in which encodings or variants may differ, sizes as far as they train on as many tokens."""


def checked(comparison: Comparison) -> Comparison:
    """Return a comparison; raise ValueError for the first of its mistakes."""
    if (mistake := next(mistakes(comparison), None)) is not None:
        raise ValueError(mistake)
    return comparison


def mistakes(comparison: Comparison) -> Iterator[str]:
    """Yield the mistakes in a comparison; the parts of its file raise ValueError for their own."""
    choices, budget = comparison.choices_by_encoding, comparison.budget
    if not comparison.question:
        yield "question must be a sentence"
    if not re.fullmatch(r"[\w./-]+", comparison.name) or ".." in comparison.name:
        yield f"name must be letters, digits, dots, - and _, got {comparison.name!r}"
    if not comparison.output:
        yield "output must be a directory, such as outputs/comparisons/mine"
    if comparison.storage is not None and (mistake := mistake_in_storage(comparison.storage)):
        yield mistake
    if len(set(comparison.seed_list)) < len(comparison.seed_list):
        yield f"seeds must be different, got {comparison.seeds}"
    if unknown := [cost for cost in comparison.costs if cost not in COSTS]:
        yield f"costs must be of {', '.join(COSTS)}, got {unknown[0]}{nearest(unknown[0], COSTS)}"
    if budget is not None and (
        list(budget) not in (["steps"], ["tokens"]) or not all(type(n) is int and n > 0 for n in budget.values())
    ):
        yield f"budget must be {{steps: 8000}} or {{tokens: 1000000}}, got {budget!r}"
    for key in ("published", "claims", "differences"):
        if comparison.paper is None and getattr(comparison, key):
            yield f"{key} must have the paper that it is of, as in paper: {{title: ..., arxiv: ...}}"
    published_results(comparison)  # raises ValueError for a mistake
    if comparison.baseline not in choices:
        yield (
            f"baseline must be one of the encodings, {', '.join(choices)}, got {comparison.baseline}"
            f"{nearest(comparison.baseline, choices)}: add it, or type baseline={next(iter(choices))}"
        )
    for name, node in choices.items():
        path, encoding = comparison.path_of(name), node.get("encoding", comparison.baseline)
        if not isinstance(encoding, str) or not encoding:
            yield f"{path}.encoding must be a choice of conf/encoding, got {encoding!r}"
        yield from _keys_of_a_contestant(path, node)
        if budget is not None and "trainer.max_steps" in map(key_of, node):
            yield f"{path} must not have trainer.max_steps, which follows from the budget"
    yield from _keys_of_a_run("train", comparison.train)
    files: dict[str, str] = {}
    for name in choices:
        if (other := files.setdefault(name.lower(), name)) != name:
            yield f"encodings: {other} and {name} would have directories of the same name: one needs another name"
    files = {}
    for case in comparison.all_cases:
        yield from _in_case(comparison, case)
        yield from _in_tuning(comparison, case)
        if (other := files.setdefault(file_name(case), case)) != case:
            yield f"cases: {other} and {case} would have files of the same name: one needs another name"
    predictions_of(comparison)  # raises ValueError for a mistake


def _in_case(comparison: Comparison, case: str) -> Iterator[str]:
    """Yield mistakes in a case, and in the case with whose runs its runs begin."""
    cases, encodings = comparison.all_cases, comparison.encodings_of(case)
    node = cases[case]
    if unknown := [name for name in encodings if name not in comparison.choices_by_encoding]:
        suggestion = nearest(unknown[0], comparison.choices_by_encoding)
        yield f"cases.{case}.encodings: there is no {unknown[0]} here{suggestion}"
    if comparison.baseline not in encodings or len(set(encodings)) < max(2, len(encodings)):
        yield (
            f"cases.{case}.encodings must contain the baseline, {comparison.baseline}, and others, all different, "
            f"got {', '.join(encodings)}"
        )
    if not comparison.criteria(case):
        yield f"metrics must name at least one that decides on {case}, such as bits_per_byte@4x"
    comparison.gate_of(case)  # raises ValueError for a mistake
    yield from _keys_of_a_run(f"cases.{case}.train", node.train)
    if unknown := [group for group in node.keeps if group not in groups()]:
        yield f"cases.{case}.keeps must be groups such as dataset, got {unknown[0]}"
    seeds = comparison.seeds_of(case)
    if len(set(seeds)) < len(seeds):
        yield f"cases.{case}.seeds must be different, got {node.seeds}"
    for source, name in ((node.tuned_as, name) for name in encodings if node.tuned_as is not None):
        if source not in cases or comparison.tuning_of(source) is None:
            yield f"cases.{case}.tuned_as must be a case with a tuning, got {source}"
        if name not in comparison.encodings_of(source):
            yield f"sizes.{node.size}.encodings must be tuned at another size, and {source} does not have {name}"
        if both := [key for key in map(key_of, node.train) if key in comparison.space_of(source, name)]:
            yield f"cases.{case}.train must not set {both[0]}, which is tuned at another size"
    if node.tuning is not None and comparison.tuning is None:
        yield f"cases.{case}.tuning must have a tuning of the whole comparison, whose space it shares"
    if node.after is None:
        if node.after_encoding is not None:
            yield f"cases.{case}.after_encoding must have the case that it is of, as in after: {next(iter(cases))}"
        return
    chain = [case]
    while (earlier := cases[chain[-1]].after) is not None:
        if earlier not in cases:
            yield f"cases.{chain[-1]}.after: there is no case {earlier}{nearest(earlier, cases)}"
            return
        if earlier in chain:
            yield f"cases.{case}.after must end at a case that starts from no other, got {' after '.join(chain)}"
            return
        chain.append(earlier)
    if missing := set(seeds) - set(comparison.seeds_of(node.after)):
        yield f"cases.{case}.seeds must be seeds of {node.after}, from whose runs it starts, got {min(missing)}"
    known, key = comparison.encodings_of(node.after), "after" if node.after_encoding is None else "after_encoding"
    for name in encodings if node.after_encoding is None else [node.after_encoding]:
        if name not in known:
            yield f"cases.{case}.{key}: {node.after} has no runs of {name}{nearest(name, known)}"
    tuned = [comparison.space_of(case, name) for name in encodings]
    contestants = [comparison.choices_by_encoding[name] for name in encodings]
    for keys in (comparison.train, node.train, *contestants, *tuned, comparison.overrides):
        if "init_from" in map(key_of, keys):
            yield f"cases.{case} must have init_from or after, not both"


def _in_tuning(comparison: Comparison, case: str) -> Iterator[str]:
    if (tuning := comparison.tuning_of(case)) is None:
        return
    choices, encodings = comparison.choices_by_encoding, comparison.encodings_of(case)
    if shared := [seed for seed in tuning.seed_list if seed in comparison.seeds_of(case)]:
        yield f"tuning.seed{'' if shared == [tuning.seed] else 's'} must not be one of seeds, got {shared[0]}"
    yield from _keys_of_a_run("tuning.space", tuning.space, MAKES_CASES)
    for name, space in tuning.of.items():
        if name not in choices:
            yield f"tuning.of.{name}: unknown encoding {name!r}{nearest(name, choices)}"
        yield from _keys_of_a_run(f"tuning.of.{name}", space, (*MAKES_CASES, *SIZES_OF_DATA, "trainer.max_steps"))
        yield from _keys_of_a_contestant(f"tuning.of.{name}", space)
    for name in encodings:
        values = tuning.space_of(name)
        if not values:
            yield "tuning.space must contain at least one key, as in {optimizer.lr: [1e-3, 3e-3]}"
        if len(tuned := list(map(key_of, values))) > len(set(tuned)):
            yield f"tuning.space: {max(tuned, key=tuned.count)} is there twice for {name}"
        most = math.prod(map(len, values.values()))
        if tuning.trials is not None and most < min(tuning.trials, MAX_REFINED):
            most = len(points_of(values, min(tuning.trials, MAX_REFINED), tuning.seed))
        if tuning.trials is not None and tuning.trials > most:
            yield f"tuning.trials must be at most {most}, all combinations of {name}, got {tuning.trials}"
        setters: dict[str, Iterable[str]] = {
            f"cases.{case}.train": comparison.all_cases[case].train,
            comparison.path_of(name): choices[name],
            "budget": ["trainer.max_steps"] if comparison.budget else [],
            "tokens_per_parameter": ["trainer.max_steps"] if comparison.all_cases[case].tokens_per_parameter else [],
        }
        for setter, keys in setters.items():
            if known := [key for key in map(key_of, keys) if key in map(key_of, values)]:
                yield f"{setter} must not set {known[0]}, which is tuned"
    counts = {name: tuning.trials_of(name) for name in encodings}
    if len(set(counts.values())) > 1:
        yield f"tuning.trials must be given, for each encoding must have as many, got {counts}"


def _keys_of_a_run(path: str, node: Mapping[str, Any], others: Iterable[str] = ("encoding",)) -> Iterator[str]:
    """Yield the keys that a node of choices must not have."""
    for key in node:
        if key_of(key) in (*OF_A_RUN, *others) or key_of(key).startswith("hydra"):
            yield f"{path} must not have {key}"


def _keys_of_a_contestant(path: str, node: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys that an encoding or a variant must not have, since its runs would not be comparable."""
    yield from _keys_of_a_run(path, node, ())
    for key in map(key_of, node):
        group = key.partition(".")[0]
        if group == "logger":
            yield f"{path} must not have {key}, which is the same for all: set it under train"
        if group == "dataset" and key not in (*SIZES_OF_DATA, *AROUND_TRAINING):
            yield (
                f"{path} must not have {key}: data belongs to cases, and is the same for all but for "
                f"{', '.join(SIZES_OF_DATA)}"
            )
