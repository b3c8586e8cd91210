"""Mistakes in a comparison that its types do not show, each in one sentence that begins with the key."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from poslab.arguments import nearest
from poslab.configuration.command_line import key_of
from poslab.configuration.labels import OF_THE_ENCODING
from poslab.experiments.comparison import Comparison, Tuning, file_name
from poslab.experiments.criteria import COSTS
from poslab.experiments.published import published_results
from poslab.experiments.storage_url import mistake_in_storage

OF_A_RUN = ("trust", "seed", "resume")
"""Keys that belong to a single run, or to the command line, as those of Hydra do."""

MAKES_CASES = ("encoding", "dataset", "experiment")
"""Groups that a comparison varies, or that make its cases, so that no tuning may."""

GROUPS_OF_ENCODINGS = (*OF_THE_ENCODING, "start")
KEYS_OF_ENCODINGS = ("optimizer.encoding_lr_multiplier", "model.layers", "model.window", "model.sinks")
"""Groups and keys in which the encodings of a comparison may differ; all others would compare something else."""


def checked(comparison: Comparison) -> Comparison:
    """Return a comparison.

    Raises:
        ValueError: for the first of its mistakes.
    """
    if (mistake := next(mistakes(comparison), None)) is not None:
        raise ValueError(mistake)
    return comparison


def mistakes(comparison: Comparison) -> Iterator[str]:
    """Yield the mistakes in a comparison; the parts of its file raise ValueError for their own."""
    for finds in (_in_texts, _in_lists, _in_encodings, _in_cases, _in_tuning, _in_budget, _in_paper):
        yield from finds(comparison)


def _in_texts(comparison: Comparison) -> Iterator[str]:
    if not comparison.question:
        yield "question must be a sentence"
    if not re.fullmatch(r"[\w./-]+", comparison.name) or ".." in comparison.name:
        yield f"name must be letters, digits, dots, - and _, got {comparison.name!r}"
    if not comparison.output:
        yield "output must be a directory, such as outputs/comparisons/mine"
    if comparison.storage is not None and (mistake := mistake_in_storage(comparison.storage)):
        yield mistake


def _in_lists(comparison: Comparison) -> Iterator[str]:
    if _twice(comparison.seed_list):
        yield f"seeds must be different, got {comparison.seeds}"
    if unknown := [cost for cost in comparison.costs if cost not in COSTS]:
        yield f"costs must be of {', '.join(COSTS)}, got {unknown[0]}{nearest(unknown[0], COSTS)}"
    if repeated := _twice(comparison.costs):
        yield f"costs must be different, got {repeated[0]} twice"


def _in_encodings(comparison: Comparison) -> Iterator[str]:
    choices = comparison.choices_by_encoding
    if comparison.baseline not in choices:
        yield (
            f"baseline must be one of the encodings, {', '.join(choices)}, got {comparison.baseline}"
            f"{nearest(comparison.baseline, choices)}"
        )
    yield from _alike("encodings", ((name, name.lower()) for name in choices))
    for name, node in choices.items():
        if not isinstance(node["encoding"], str) or not node["encoding"]:
            yield f"encodings.{name}.encoding must be a choice of conf/encoding, got {node['encoding']!r}"
        yield from _keys_beside_encodings(f"encodings.{name}", node)


def _in_cases(comparison: Comparison) -> Iterator[str]:
    names = comparison.choices_by_encoding
    yield from _keys_of_a_run("train", comparison.train)
    for case, node in comparison.all_cases.items():
        own = comparison.encodings_of(case)
        if unknown := [name for name in own if name not in names]:
            yield f"cases.{case}.encodings: there is no {unknown[0]} here{nearest(unknown[0], names)}"
        if repeated := _twice(own):
            yield f"cases.{case}.encodings must be different, got {repeated[0]} twice"
        if comparison.baseline not in own or len(own) < 2:
            yield f"cases.{case}.encodings must hold the baseline, {comparison.baseline}, and at least another"
        if not comparison.criteria(case):
            yield f"metrics must name at least one that decides on {case}, such as bits_per_byte@4x"
        comparison.gate_of(case)  # raises ValueError for a mistake
        yield from _keys_of_a_run(f"cases.{case}.train", node.train)
        yield from _in_what_comes_before(comparison, case)
        if node.tuning is not None and comparison.tuning is None:
            yield f"cases.{case}.tuning must have a tuning of the whole comparison, whose space it shares"
    figures = [(case, f"table_{file_name(case)}") for case in comparison.all_cases]
    for case in comparison.all_cases:
        figures += [(case, f"curves_{file_name(case)}_{criterion.name}") for criterion in comparison.criteria(case)]
    yield from _alike("cases", figures)


def _in_what_comes_before(comparison: Comparison, case: str) -> Iterator[str]:
    """Yield mistakes in the case with whose runs those of a case begin."""
    node, cases = comparison.all_cases[case], comparison.all_cases
    if node.after is None:
        if node.after_encoding is not None:
            yield f"cases.{case}.after_encoding must have the case that it is of, as in after: {next(iter(cases))}"
        return
    seen = [case]
    while (place := cases[seen[-1]].after) is not None:
        if place not in cases:
            yield f"cases.{seen[-1]}.after: there is no case {place}{nearest(place, cases)}"
            return
        if place in seen:
            yield f"cases.{case}.after must end at a case that begins anew, got {' after '.join([*seen, place])}"
            return
        seen.append(place)
    there, key = comparison.encodings_of(node.after), "after" if node.after_encoding is None else "after_encoding"
    for name in comparison.encodings_of(case) if node.after_encoding is None else [node.after_encoding]:
        if name not in there:
            yield f"cases.{case}.{key}: {node.after} has no runs of {name}{nearest(name, there)}"
    tuned = [comparison.space_of(case, name) for name in comparison.encodings_of(case)]
    for keys in (comparison.train, node.train, *tuned, comparison.overrides):
        if "init_from" in map(key_of, keys):
            yield f"cases.{case} must have init_from or after, not both"


def _in_tuning(comparison: Comparison) -> Iterator[str]:
    for case in comparison.all_cases:
        if (tuning := comparison.tuning_of(case)) is None:
            continue
        if tuning.seed in comparison.seed_list:
            yield f"tuning.seed must not be one of seeds, got {tuning.seed}"
        for name in tuning.of:
            if name not in comparison.choices_by_encoding:
                suggestion = nearest(name, comparison.choices_by_encoding)
                yield f"tuning.of.{name}: there is no such encoding here{suggestion}"
        for place, space in {"space": tuning.space, **{f"of.{name}": own for name, own in tuning.of.items()}}.items():
            yield from _keys_of_a_run(f"tuning.{place}", space, MAKES_CASES)
        for name, own in tuning.of.items():
            yield from _keys_beside_encodings(f"tuning.of.{name}", own)
        yield from _in_trials(tuning, comparison.encodings_of(case))
        yield from _set_and_tuned(comparison, case, tuning)


def _in_trials(tuning: Tuning, encodings: Sequence[str]) -> Iterator[str]:
    """Yield mistakes in the number of trials, of which all encodings must have as many."""
    for name in encodings:
        space = tuning.space_of(name)
        if not space:
            yield "tuning.space must hold at least one key, as in {optimizer.lr: [1e-3, 3e-3]}"
        most = math.prod(map(len, space.values()))
        if tuning.trials is not None and tuning.trials > most:
            yield f"tuning.trials must be at most {most}, all combinations of {name}, got {tuning.trials}"
    counts = {name: tuning.trials_of(name) for name in encodings}
    if len(set(counts.values())) > 1:
        fewest, most_named = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        yield (
            f"tuning.trials must be given, for each encoding must have as many: {fewest} has {counts[fewest]} "
            f"combinations, and {most_named} has {counts[most_named]}"
        )


def _set_and_tuned(comparison: Comparison, case: str, tuning: Tuning) -> Iterator[str]:
    """Yield the tuned keys that a case, an encoding or the budget already sets."""
    for name in comparison.encodings_of(case):
        tuned = set(map(key_of, tuning.space_of(name)))
        places: dict[str, Iterable[str]] = {
            f"cases.{case}.train": comparison.all_cases[case].train,
            f"encodings.{name}": comparison.choices_by_encoding[name],
            "budget": ["trainer.max_steps"] if comparison.budget else [],
        }
        for place, keys in places.items():
            if both := [key for key in keys if key_of(key) in tuned]:
                yield f"{place} must not set {key_of(both[0])}, which is tuned"


def _in_budget(comparison: Comparison) -> Iterator[str]:
    budget = comparison.budget
    if budget is not None and (
        list(budget) not in (["steps"], ["tokens"]) or not all(type(n) is int and n > 0 for n in budget.values())
    ):
        yield f"budget must be {{steps: 8000}} or {{tokens: 1000000}}, got {budget!r}"


def _in_paper(comparison: Comparison) -> Iterator[str]:
    for key in ("published", "claims", "differences"):
        if comparison.paper is None and getattr(comparison, key):
            yield f"{key} must have the paper that it is of, as in paper: {{title: ..., arxiv: ...}}"
    published_results(comparison)  # raises ValueError for a mistake


def _keys_of_a_run(place: str, node: Mapping[str, Any], others: Iterable[str] = ("encoding",)) -> Iterator[str]:
    """Yield the keys that a node of choices must not have."""
    for key in node:
        if key_of(key) in (*OF_A_RUN, *others) or key_of(key).startswith("hydra"):
            yield f"{place} must not have {key}"


def _keys_beside_encodings(place: str, node: Mapping[str, Any]) -> Iterator[str]:
    for key in node:
        if key_of(key).partition(".")[0] not in GROUPS_OF_ENCODINGS and key_of(key) not in KEYS_OF_ENCODINGS:
            yield (
                f"{place} must not have {key}: encodings differ in keys of {', '.join(GROUPS_OF_ENCODINGS)}, and in "
                f"{', '.join(KEYS_OF_ENCODINGS)}, alone"
            )


def _alike(place: str, forms: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the names whose files would have the same name, from each name and that of its file."""
    seen: dict[str, str] = {}
    for name, form in forms:
        if (other := seen.setdefault(form, name)) != name:
            yield f"{place}: {other} and {name} would have files of the same name, {form}: one needs another name"


def _twice(items: Sequence[Any]) -> list[Any]:
    return [item for place, item in enumerate(items) if item in items[:place]]
