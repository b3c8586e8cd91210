"""A comparison: one question, the encodings and cases that answer it, and the metrics that decide."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from functools import cached_property
from typing import Annotated, Any, Literal

from poslab.arguments import Count, Positive, Range, with_checked_arguments
from poslab.configuration.build import nearest

NAME = r"[A-Za-z0-9][\w.=+-]*"
"""Pattern of names of encodings and cases, which are those of directories too."""

COSTS = ("parameters", "train_tokens_per_second", "seconds", "memory")

VARIED = ("encoding", "dataset", "experiment")
"""Groups that a comparison varies, or that make its cases."""

Choices = Mapping[str, Any]
"""Overrides of `python -m src.train` by key, such as `{"encoding": "rotary", "encoding.base": 1000}`."""


@with_checked_arguments
@dataclass(frozen=True)
class Criterion:
    """A metric that decides, at some lengths.

    Args:
        metric: its tag. `exact_match@20` is at length 20, `bits_per_byte@4x` at four times the training length,
            `exact_match@trained` the mean over lengths up to those of training, `exact_match@beyond` that over longer
            ones, and `accuracy` that of all test items.
        direction: of the better values.
        margin: smallest difference that matters, in the unit of the metric; None means that any does.
    """

    metric: str
    direction: Literal["minimize", "maximize"]
    margin: Positive | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_]+(@(\d+x?|trained|beyond))?", self.metric):
            raise ValueError(
                f"metrics: {self.metric} must be a metric of the test, perhaps with its lengths, such as accuracy, "
                "exact_match@beyond, exact_match@20 or bits_per_byte@4x"
            )

    @property
    def name(self) -> str:
        """The metric without its lengths."""
        return self.metric.partition("@")[0]

    @property
    def where(self) -> str:
        """The lengths of the metric: `20`, `4x`, `trained`, `beyond`, or "" for all."""
        return self.metric.partition("@")[2]


@with_checked_arguments
@dataclass(frozen=True)
class Gate:
    """The value of a metric from which on a case counts as learned: `at_least` or `at_most`, in its unit."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("gate must have at_least or at_most, as in {metric: exact_match@trained, at_least: 99}")
        self.criterion  # noqa: B018, raises ValueError for a tag that is none

    @property
    def criterion(self) -> Criterion:
        """The metric, of which more is better if it has to be at least something."""
        return Criterion(self.metric, "minimize" if self.at_least is None else "maximize")

    def passes(self, value: float) -> bool:
        """Return whether a value passes; NaN does not."""
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0.0)


@with_checked_arguments
@dataclass(frozen=True)
class Tuning:
    """Tuning of each encoding on each case, before the comparison: the same number of trials over the same space.

    Args:
        metric: of a validation at the trained length, such as `loss`, `bits_per_byte` or `exact_match`.
        direction: of its better values.
        space: values to try by key, for all encodings: `{optimizer.lr: [3e-4, 1e-3, 3e-3]}`.
        of: further keys by encoding: `{t5: {encoding.max_distance: [32, 128]}}`.
        trials: of each encoding on each case; None means all combinations, whose number must then be the same for all.
        seed: of the runs, which no run of the comparison has.
    """

    metric: str
    direction: Literal["minimize", "maximize"]
    space: Mapping[str, Sequence[Any]]
    of: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    trials: Count | None = None
    seed: Annotated[int, Range(0, 2**32 - 1)] = 1000

    def __post_init__(self) -> None:
        for place, space in (("space", self.space), *((f"of.{name}", own) for name, own in self.of.items())):
            if not isinstance(space, Mapping):
                raise ValueError(f"tuning.{place} must be lists of values by key, as in {{optimizer.lr: [1e-3, 3e-3]}}")
            for key, values in space.items():
                if not isinstance(values, list) or not values or len(set(map(str, values))) < len(values):
                    raise ValueError(f"tuning.{place}.{key} must be a list of different values, got {values!r}")

    def space_of(self, encoding: str) -> dict[str, list[Any]]:
        """Return the values to try of an encoding, by key."""
        return {
            **{k: list(v) for k, v in self.space.items()},
            **{k: list(v) for k, v in self.of.get(encoding, {}).items()},
        }

    def trials_of(self, encoding: str) -> int:
        """Return the number of trials of an encoding, extensions aside."""
        combinations = math.prod(map(len, self.space_of(encoding).values()))
        return combinations if self.trials is None else self.trials


@with_checked_arguments
@dataclass(frozen=True)
class Case:
    """A case: data, task and training, the same for every encoding.

    Args:
        train: choices of its runs.
        lengths: of the test: tokens of a window or lengths of examples, or multiples of the training length as `4x`;
            None are those of its configuration.
        metrics: that decide on it, by tag, in place of those of the comparison.
        gate: in place of that of the comparison.
        tuning: metric and direction of its tuning, in place of those of the comparison.
        encodings: names of those that it compares, such as those that serve an encoder; None are all.
    """

    train: Mapping[str, Any]
    lengths: Sequence[int | str] | None = None
    metrics: Mapping[str, Any] | None = None
    gate: Mapping[str, Any] | None = None
    tuning: Mapping[str, Any] | None = None
    encodings: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for length in self.lengths or ():
            if not re.fullmatch(r"[1-9]\d{0,8}x?", str(length)):
                raise ValueError(f"lengths must be tokens, or multiples such as 4x, got {length!r}")


@dataclass(frozen=True)
class Comparison:
    """A comparison as plain data, which can be sent to workers and kept with its results.

    Args:
        name: of the comparison, and of its directory.
        question: one sentence.
        baseline: name of the encoding to which the others are compared.
        encodings: their names in conf/encoding, or `{name: rotary_25, encoding: rotary, encoding.fraction: 0.25}`.
        cases: arguments of `Case` by name.
        output: the directory.
        seeds: number of seeds, from 1 on, or a list of them. Runs of the same seed are pairs.
        metrics: that decide, by tag: `{bits_per_byte@4x: {direction: minimize, margin: 0.02}}`.
        gate: arguments of `Gate`; None counts every case as learned.
        tuning: arguments of `Tuning`; None tunes nothing.
        budget: `{steps: 8000}`, or `{tokens: 1000000}` of training, for every run; None is that of each case.
        costs: columns of the table beside the metrics.
        train: choices of every run, by key.
        paper, published, claims, differences: as of `PublishedResults`, for a comparison that repeats a paper.
        overrides: choices of every run as typed, which override all others.
        workers, storage, hang_after, lost_after, trust: as of a sweep.
    """

    name: str
    question: str
    baseline: str
    encodings: Sequence[Any]
    cases: Mapping[str, Any]
    output: str
    seeds: Any = 3
    metrics: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] | None = None
    tuning: Mapping[str, Any] | None = None
    budget: Mapping[str, Any] | None = None
    costs: Sequence[str] = ("parameters", "train_tokens_per_second")
    train: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, Any] | None = None
    published: Sequence[Any] = ()
    claims: Sequence[Any] = ()
    differences: Sequence[str] = ()
    overrides: Sequence[str] = ()
    workers: int = 1
    storage: str | None = None
    hang_after: int = 1800
    lost_after: int = 60
    trust: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("hang_after", 1), ("lost_after", 3)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
        if not isinstance(self.question, str) or not self.question:
            raise ValueError("question must be a sentence")
        if not re.fullmatch(r"[\w./-]+", str(self.name)) or ".." in str(self.name):
            raise ValueError(f"name must be letters, digits, dots, - and _, got {self.name!r}")
        if self.storage is not None and not re.match(r"[\w+]+://", str(self.storage)):
            raise ValueError(
                f"storage must be the URL of a database, such as postgresql://USER@HOST/NAME, got {self.storage!r}"
            )
        if len(self.seed_list) != len(set(self.seed_list)):
            raise ValueError(f"seeds must be different, got {self.seeds}")
        if unknown := [cost for cost in self.costs if cost not in COSTS]:
            raise ValueError(f"costs must be of {', '.join(COSTS)}, got {unknown[0]}{nearest(str(unknown[0]), COSTS)}")
        choices, cases = self.choices_by_encoding, self.all_cases
        if self.baseline not in choices:
            raise ValueError(
                f"baseline must be one of the encodings, {', '.join(choices)}, got {self.baseline}"
                f"{nearest(str(self.baseline), choices)}"
            )
        for name in cases:
            self._check_encodings(name)
            if not self.criteria(name):
                raise ValueError(f"metrics must name at least one that decides on {name}, such as bits_per_byte@4x")
            self.gate_of(name)
            self._check_tuning(name)
        self._check_budget()
        places = {f"cases.{name}.train": case.train for name, case in cases.items()}
        places |= {f"encodings.{name}": own for name, own in choices.items()}
        for place, node in {"train": self.train, **places}.items():
            _refuse_keys(place, node, ("trust", "seed", "resume"))
        for name in cases:
            if (tuning := self.tuning_of(name)) is not None:
                for place, node in {
                    "space": tuning.space,
                    **{f"of.{own}": tuning.of[own] for own in tuning.of},
                }.items():
                    _refuse_keys(f"tuning.{place}", node, (*("trust", "seed", "resume"), *VARIED))

    @cached_property
    def seed_list(self) -> list[int]:
        """The seeds of the runs."""
        seeds = list(range(1, self.seeds + 1)) if type(self.seeds) is int and self.seeds > 0 else self.seeds
        if not isinstance(seeds, list) or not seeds or not all(type(s) is int and 0 <= s < 2**32 for s in seeds):
            raise ValueError(f"seeds must be how many, or a list of them, got {self.seeds!r}")
        return seeds

    @cached_property
    def choices_by_encoding(self) -> dict[str, Choices]:
        """The choices of each encoding, by its name in the comparison."""
        if not isinstance(self.encodings, Sequence) or isinstance(self.encodings, str) or len(self.encodings) < 2:
            raise ValueError(f"encodings must be a list of at least two, as in [none, rotary], got {self.encodings!r}")
        found: dict[str, Choices] = {}
        for node in self.encodings:
            own = {"name": node} if isinstance(node, str) else node
            if not isinstance(own, Mapping) or not re.fullmatch(NAME, str(own.get("name", ""))):
                raise ValueError(
                    "encodings must be names, or {name: rotary_25, encoding: rotary, encoding.fraction: 0.25}, "
                    f"got {node!r}"
                )
            name = str(own["name"])
            if name in found:
                raise ValueError(f"encodings must have different names, got {name} twice")
            found[name] = {"encoding": name, **{str(k): v for k, v in own.items() if k != "name"}}
        return found

    @cached_property
    def all_cases(self) -> dict[str, Case]:
        """The cases by name."""
        if not isinstance(self.cases, Mapping) or not self.cases:
            raise ValueError("cases must hold at least one, as in {text: {train: {dataset: python_docs}}}")
        found = {}
        for name, node in self.cases.items():
            if not re.fullmatch(NAME, str(name)):
                raise ValueError(f"cases: names must be letters, digits, dots, - and _, got {name!r}")
            found[str(name)] = made(Case, f"cases.{name}", node)
        return found

    def encodings_of(self, case: str) -> list[str]:
        """Return the names of the encodings that a case compares."""
        own = self.all_cases[case].encodings
        return list(self.choices_by_encoding if own is None else own)

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """Each case with each of its encodings."""
        return [(case, encoding) for case in self.all_cases for encoding in self.encodings_of(case)]

    def criteria(self, case: str) -> list[Criterion]:
        """Return the metrics that decide on a case, the first of which is that of the answer."""
        own = self.all_cases[case].metrics
        nodes = self.metrics if own is None else own
        if not isinstance(nodes, Mapping):
            raise ValueError("metrics must be by tag, as in {accuracy: {direction: maximize, margin: 1}}")
        return [made(Criterion, f"metrics.{tag}", node, metric=str(tag)) for tag, node in nodes.items()]

    def gate_of(self, case: str) -> Gate | None:
        """Return the gate of a case."""
        own = self.all_cases[case].gate
        node = self.gate if own is None else own
        return None if node is None else made(Gate, "gate", node)

    def tuning_of(self, case: str) -> Tuning | None:
        """Return the tuning of a case."""
        if self.tuning is None:
            return None
        own = self.all_cases[case].tuning or {}
        if not isinstance(self.tuning, Mapping):
            raise ValueError("tuning must hold metric, direction and space")
        return made(Tuning, "tuning", {**self.tuning, **own})

    def as_plain_data(self) -> dict[str, Any]:
        """Return its arguments, for JSON."""
        return asdict(self)

    def _check_encodings(self, case: str) -> None:
        own, names = self.encodings_of(case), self.choices_by_encoding
        if unknown := [name for name in own if name not in names]:
            raise ValueError(f"cases.{case}.encodings: there is no {unknown[0]} here{nearest(str(unknown[0]), names)}")
        if self.baseline not in own or len(own) < 2:
            raise ValueError(f"cases.{case}.encodings must hold the baseline, {self.baseline}, and at least another")

    def _check_tuning(self, case: str) -> None:
        tuning = self.tuning_of(case)
        if tuning is None:
            return
        if tuning.seed in self.seed_list:
            raise ValueError(f"tuning.seed must not be one of seeds, got {tuning.seed}")
        for name in tuning.of:
            if name not in self.choices_by_encoding:
                suggestion = nearest(name, self.choices_by_encoding)
                raise ValueError(f"tuning.of.{name}: there is no such encoding here{suggestion}")
        names = self.encodings_of(case)
        for name in names:
            most = math.prod(map(len, tuning.space_of(name).values()))
            if tuning.trials is not None and tuning.trials > most:
                raise ValueError(
                    f"tuning.trials must be at most {most}, all combinations of {name}, got {tuning.trials}"
                )
        counts = {name: tuning.trials_of(name) for name in names}
        if len(set(counts.values())) > 1:
            fewest, most_named = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
            raise ValueError(
                f"tuning.trials must be given, for each encoding must have as many: {fewest} has {counts[fewest]} "
                f"combinations, and {most_named} has {counts[most_named]}"
            )

    def _check_budget(self) -> None:
        if self.budget is None:
            return
        keys = list(self.budget) if isinstance(self.budget, Mapping) else []
        if keys not in (["steps"], ["tokens"]) or not all(type(n) is int and n > 0 for n in self.budget.values()):
            raise ValueError(f"budget must be {{steps: 8000}} or {{tokens: 1000000}}, got {self.budget!r}")


def _refuse_keys(place: str, node: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Raise ValueError for keys that do not belong there, or are Hydra's."""
    for key in node:
        plain = str(key).lstrip("+~")
        if plain in keys or plain.startswith("hydra"):
            raise ValueError(f"{place} must not have {key}")


def made(kind: Any, place: str, node: Any, **given: Any) -> Any:
    """Return an object of a dataclass from the keys of a file; raise ValueError naming the place."""
    if not isinstance(node, Mapping):
        raise ValueError(f"{place} must hold keys, got {node!r}")
    allowed = {one.name: one for one in fields(kind) if one.name not in given}
    if unknown := [key for key in node if key not in allowed]:
        raise ValueError(f"{place}: there is no key {unknown[0]}{nearest(str(unknown[0]), allowed)}")
    if missing := [name for name, one in allowed.items() if name not in node and _must_be_given(one)]:
        raise ValueError(f"{place} must have {missing[0]}")
    try:
        return kind(**node, **given)
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith(place) else f"{place}: {error}") from error


def _must_be_given(one: Field[Any]) -> bool:
    return one.default is MISSING and one.default_factory is MISSING
