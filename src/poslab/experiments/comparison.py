"""A comparison: one question, and the encodings, other variants and cases that answer it."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Annotated, Any, Literal

from poslab.arguments import Count, Positive, Range, nearest, needed, shown, with_checked_arguments
from poslab.configuration.command_line import LENGTH, key_of
from poslab.configuration.labels import OF_THE_ENCODING
from poslab.experiments.criteria import Criterion, Direction, Gate
from poslab.experiments.storage_url import Stored

NAME = r"[A-Za-z0-9][\w.=+-]{0,79}"
"""Pattern of names of encodings and cases, which are also names of directories, and so not longer."""

MAX_SEEDS = 1000  # largest number of seeds that a file may ask for by a number

GROUPS_OF_ENCODINGS = (*OF_THE_ENCODING, "start")
KEYS_OF_ENCODINGS = ("optimizer.encoding_lr_multiplier", "model.layers", "model.window", "model.sinks")
"""Groups and keys that make an encoding; contestants that differ in others are called variants."""

Choices = Mapping[str, Any]
"""Overrides of `python -m src.train` by key, such as `{"encoding": "rotary", "encoding.base": 1000}`."""


@with_checked_arguments
@dataclass(frozen=True)
class Tuning:
    """Tuning of each encoding on each case, before the comparison: the same number of trials over the same space.

    Args:
        metric: of a validation at the training length, such as `loss`, `bits_per_byte` or `exact_match`, or on longer
            lengths, such as `exact_match_beyond`.
        direction: of its better values.
        space: values to try by key, for all encodings: `{optimizer.lr: [3e-4, 1e-3, 3e-3]}`.
        of: further keys by encoding: `{t5: {encoding.max_distance: [32, 128]}}`.
        trials: of each encoding on each case; None means all combinations, whose number must then be the same for all.
        seed: of the runs, which no run of the comparison has.
        seeds: of the runs of each point, whose mean counts: how many, from `seed` on, or a list instead of it.
        sizes: of the comparison that are tuned; None are the smallest two. Others have the values of the next smaller.
        rate_exponent: p of the rule by which their `optimizer.lr` is multiplied by (smaller width / their width)^p.
    """

    metric: str
    direction: Direction
    space: Mapping[str, Any]
    of: Mapping[str, Any] = field(default_factory=dict)
    trials: Count | None = None
    seed: Annotated[int, Range(0, 2**32 - 1)] = 1000
    seeds: Any = 1
    sizes: Sequence[str] | None = None
    rate_exponent: Annotated[float, Range(at_least=0, at_most=2)] = 1.0

    def __post_init__(self) -> None:
        for path, space in (
            ("space", self.space),
            *((f"of.{name}", of_encoding) for name, of_encoding in self.of.items()),
        ):
            if not isinstance(space, Mapping) or not all(isinstance(key, str) for key in space):
                raise ValueError(f"tuning.{path} must be lists of values by key, as in {{optimizer.lr: [1e-3, 3e-3]}}")
            for key, values in space.items():
                is_list = isinstance(values, list) and values != []
                if not is_list or any(first == second for first, second in itertools.combinations(values, 2)):
                    raise ValueError(f"tuning.{path}.{key} must be a list of different values, got {values!r}")

        if len(set(self.seed_list)) < len(self.seed_list):
            raise ValueError(f"tuning.seeds must be different, got {self.seeds}")

    @cached_property
    def seed_list(self) -> list[int]:
        """The seeds of the runs of each point."""
        return _seeds("tuning.seeds", self.seeds, self.seed)

    def space_of(self, encoding: str) -> dict[str, list[Any]]:
        """Return the values to try of an encoding, by key."""
        return {**self.space, **self.of.get(encoding, {})}

    def trials_of(self, encoding: str) -> int:
        """Return the number of trials of an encoding, extensions aside."""
        combinations = math.prod(map(len, self.space_of(encoding).values()))
        return combinations if self.trials is None else self.trials


@with_checked_arguments
@dataclass(frozen=True)
class Case:
    """A case: data, task and size of training, the same for every encoding.

    Args:
        train: choices of its runs.
        lengths: of the test: tokens of a window or lengths of examples, or multiples of the training length as `4x` and
            `0.5x`; None are the lengths of its configuration.
        metrics: that decide on it, by tag, instead of the comparison's.
        gate: instead of the comparison's.
        tuning: metric and direction of its tuning, instead of the comparison's.
        encodings: names of the encodings that it compares, such as encodings for an encoder; None are all.
        after: case with whose run, of the same seed, a run of this one begins (`init_from`); None starts fresh. Trials
            of a tuning start with the run of the first seed.
        after_encoding: encoding of that run; None is the encoding of the run itself.
        keeps: groups such as `dataset` that typed choices do not change in its runs.
        seeds: instead of the comparison's.
        size, case: its size and its case in the file, if `sizes` has made it.
        tokens_per_parameter: of its training; None is as many as its choices say.
        tuned_as: case whose tuned values it has; None is its own tuning.
        parameters, width: of the baseline, without the embeddings of tokens, and of its model.
        steps, tokens: of its training; examples instead of tokens where these are no windows of a text.
    """

    train: Mapping[str, Any]
    lengths: Sequence[int | str] | None = None
    metrics: Mapping[Any, Any] | None = None
    gate: Mapping[Any, Any] | None = None
    tuning: Mapping[Any, Any] | None = None
    encodings: Sequence[str] | None = None
    after: str | None = None
    after_encoding: str | None = None
    keeps: Sequence[str] = ()
    seeds: Any = None
    size: str | None = None
    case: str | None = None
    tokens_per_parameter: Positive | None = None
    tuned_as: str | None = None
    parameters: Annotated[int, Range(at_least=1)] = 1
    width: Count | None = None
    steps: Annotated[int, Range(at_least=0)] = 0
    tokens: Annotated[int, Range(at_least=0)] = 0

    def __post_init__(self) -> None:
        if self.lengths is not None and not self.lengths:
            raise ValueError("lengths must contain at least one, as in [1x, 4x]")
        for length in self.lengths or ():
            if not re.fullmatch(LENGTH, str(length)):
                raise ValueError(f"lengths must be integers such as 512, or multiples such as 4x, got {length!r}")


@with_checked_arguments
@dataclass(frozen=True)
class Comparison(Stored):
    """A comparison as plain data, which can be sent to workers and kept with its results.

    ValueError for a value that a key cannot have; that keys go together is checked by `mistakes.checked`.

    Args:
        baseline: name of the encoding to which the others are compared.
        encodings: their names in conf/encoding, or `{name: rotary_25, encoding: rotary, encoding.fraction: 0.25}`.
        variants: further contestants by name, each with overrides of a run: `{wide: {model.d_model: 256}}`.
        cases: arguments of `Case` by name.
        seeds: number of seeds, at least 1, or a list of them. Runs of the same seed are pairs.
        metrics: that decide, by tag: `{bits_per_byte@4x: {direction: minimize, margin: 0.02}}`.
        pairing: whether runs of the same seed are pairs (seeds are blocks), or else independent.
        cases_are: `tasks`, or `corpora` of one kind of text, of which another one could be drawn.
        gate: arguments of `Gate`; None counts every case as learned.
        tuning: arguments of `Tuning`; None tunes nothing.
        budget: `{steps: 8000}`, or `{tokens: 1000000}` of training, for every run; None is the budget of each case.
        costs: further columns of the table.
        paper, published, claims, differences: as of `PublishedResults`, for a comparison that repeats a paper.
        predictions: arguments of `Prediction`, each made before the runs.
        others: as in `Stored`.
    """

    baseline: str
    cases: Mapping[Any, Any]
    encodings: Sequence[Any] = ()
    variants: Mapping[Any, Any] = field(default_factory=dict)
    seeds: Any = 3
    metrics: Mapping[Any, Any] = field(default_factory=dict)
    pairing: bool = True
    cases_are: Literal["tasks", "corpora"] = "tasks"
    gate: Mapping[Any, Any] | None = None
    tuning: Mapping[Any, Any] | None = None
    budget: Mapping[Any, Any] | None = None
    costs: Sequence[str] = ("parameters", "train_tokens_per_second")
    paper: Mapping[Any, Any] | None = None
    published: Sequence[Any] = ()
    claims: Sequence[Any] = ()
    differences: Sequence[str] = ()
    predictions: Sequence[Any] = ()

    @cached_property
    def seed_list(self) -> list[int]:
        """The seeds of the runs."""
        return _seeds("seeds", self.seeds, 1)

    @cached_property
    def choices_by_encoding(self) -> dict[str, Choices]:
        """The choices of each contestant by its name: first `encodings`, then `variants`."""
        choices: dict[str, Choices] = {}
        for node in self.encodings:
            entry = {"name": node} if isinstance(node, str) else node
            if not isinstance(entry, Mapping) or not _is_name(entry.get("name")):
                raise ValueError(
                    "encodings must be names, or {name: rotary_25, encoding: rotary, encoding.fraction: 0.25}, "
                    f"got {node!r}"
                )
            name = entry["name"]
            if name in choices:
                raise ValueError(f"encodings must have different names, got {name} twice")
            choices[name] = {"encoding": name, **{str(k): v for k, v in entry.items() if k != "name"}}
        check_names("variants", self.variants)
        for name, node in self.variants.items():
            if not isinstance(node, Mapping):
                raise ValueError(f"variants.{name} must be choices by key, as in {{model.window: 64}}, got {node!r}")
            if name in choices:
                raise ValueError(f"variants.{name} must have another name than one of the encodings")
            choices[name] = {str(key): value for key, value in node.items()}
        if len(choices) < 2:
            raise ValueError(
                "encodings must be a list of at least two, as in [none, rotary], unless variants are there too, got "
                f"{self.encodings!r}"
            )
        return choices

    def path_of(self, name: str) -> str:
        """Return the key of a contestant in its file."""
        return f"{'variants' if name in self.variants else 'encodings'}.{name}"

    @cached_property
    def differing(self) -> list[str]:
        """The keys besides `encoding` in which contestants differ."""
        every = self.choices_by_encoding.values()
        keys = dict.fromkeys(key for choices in every for key in choices if key != "encoding")
        return [key for key in keys if len({repr(choices.get(key)) for choices in every}) > 1]

    @property
    def heading(self) -> str:
        """The name for contestants: `encoding`, or `variant` if they differ in keys that make no encoding."""
        of_encodings = (
            key.partition(".")[0] in GROUPS_OF_ENCODINGS or key in KEYS_OF_ENCODINGS
            for key in map(key_of, self.differing)
        )
        return "encoding" if all(of_encodings) else "variant"

    def declared(self, changes: Sequence[str]) -> list[str]:
        """Return the contestants that set one of some keys, or a key of these groups, otherwise than others do.

        Keys that make an encoding change neither the data nor the weights outside of it.
        """
        keys = [key for key in self.differing if key_of(key) not in KEYS_OF_ENCODINGS]
        changed = [key for key in keys if key_of(key) in changes or key_of(key).partition(".")[0] in changes]
        return [name for name, choices in self.choices_by_encoding.items() if any(key in choices for key in changed)]

    @cached_property
    def all_cases(self) -> dict[str, Case]:
        if not self.cases:
            raise ValueError("cases must contain at least one, as in {text: {train: {dataset: python_docs}}}")
        check_names("cases", self.cases)
        return {name: made(Case, f"cases.{name}", node) for name, node in self.cases.items()}

    def encodings_of(self, case: str) -> list[str]:
        names = self.all_cases[case].encodings
        return list(self.choices_by_encoding if names is None else names)

    def overrides_of(self, case: str) -> list[str]:
        """Return the typed choices of the runs of a case."""
        keeps = self.all_cases[case].keeps
        return [word for word in self.overrides if key_of(word).partition(".")[0] not in keeps]

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """Each case with each of its encodings."""
        return [(case, encoding) for case in self.all_cases for encoding in self.encodings_of(case)]

    def earlier_pair(self, case: str, encoding: str) -> tuple[str, str] | None:
        """Return the case and the encoding with whose run a run begins; None if it starts from scratch."""
        node = self.all_cases[case]
        of = encoding if node.after_encoding is None else node.after_encoding
        return None if node.after is None else (node.after, of)

    def seeds_of(self, case: str) -> list[int]:
        seeds = self.all_cases[case].seeds
        return self.seed_list if seeds is None else _seeds(f"cases.{case}.seeds", seeds, 1)

    @property
    def has_sizes(self) -> bool:
        """True if its cases are sizes of others, which are no sample of tasks."""
        return any(node.size is not None for node in self.all_cases.values())

    @cached_property
    def continued(self) -> list[str]:
        """The cases of which each run starts from what a run under the same encoding has learned."""
        return [name for name, node in self.all_cases.items() if node.after is not None and node.after_encoding is None]

    def criteria(self, case: str) -> list[Criterion]:
        """Return the metrics that decide on a case; the first decides the answer."""
        of_case = self.all_cases[case].metrics
        nodes = self.metrics if of_case is None else of_case
        key = "metrics" if of_case is None else f"cases.{case}.metrics"
        return [made(Criterion, f"{key}.{tag}", node, metric=str(tag)) for tag, node in nodes.items()]

    def deciding(self, case: str) -> list[Criterion]:
        """Return the metrics that decide on a case, and the metric of its gate."""
        gate = self.gate_of(case)
        return [*self.criteria(case), *([] if gate is None else [gate.criterion])]

    def gate_of(self, case: str) -> Gate | None:
        of_case = self.all_cases[case].gate
        node = self.gate if of_case is None else of_case
        return None if node is None else made(Gate, "gate" if of_case is None else f"cases.{case}.gate", node)

    def tuning_of(self, case: str) -> Tuning | None:
        """Return the tuning of a case; None also of one that has the tuned values of another size."""
        if self.tuning is None or self.all_cases[case].tuned_as is not None:
            return None
        of_case = self.all_cases[case].tuning or {}
        return made(Tuning, f"cases.{case}.tuning" if of_case else "tuning", {**self.tuning, **of_case})

    def space_of(self, case: str, encoding: str) -> dict[str, list[Any]]:
        """Return the values to try of an encoding on a case, by key; {} without a tuning."""
        tuning = self.tuning_of(case)
        return {} if tuning is None else tuning.space_of(encoding)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and re.fullmatch(NAME, name) is not None


def _seeds(key: str, node: Any, first: int) -> list[int]:
    """Return a list of seeds, or as many as a number says."""
    seeds = list(range(first, first + node)) if type(node) is int and 0 < node <= MAX_SEEDS else node
    if not isinstance(seeds, list) or not seeds or not all(type(s) is int and 0 <= s < 2**32 for s in seeds):
        raise ValueError(f"{key} must be how many, at most {MAX_SEEDS:,}, or a list of them, got {shown(node)}")
    return seeds


def check_names(key: str, names: Iterable[Any]) -> None:
    if odd := [name for name in names if not _is_name(name)]:
        quotes = "" if isinstance(odd[0], str) else ": YAML reads on, yes and 5 as texts only in quotes"
        raise ValueError(f"{key}: names must be at most 80 letters, digits, dots, - and _, got {shown(odd[0])}{quotes}")


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Let the message of a ValueError start with a path, unless it names it already."""
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error) if path in str(error) else f"{path}: {error}") from error


def made(kind: Any, path: str, node: Any, **given: Any) -> Any:
    """Return an object of a dataclass from the keys of a file; raise ValueError naming the key."""
    if not isinstance(node, Mapping):
        raise ValueError(f"{path} must contain keys, got {node!r}")
    allowed = [parameter.name for parameter in fields(kind) if parameter.name not in given]
    if unknown := [key for key in node if key not in allowed]:
        raise ValueError(f"{path}: there is no key {unknown[0]}{nearest(str(unknown[0]), allowed)}")
    if missing := [name for name in needed(kind) if name in allowed and name not in node]:
        raise ValueError(f"{path} must have {missing[0]}")
    with naming(path):
        return kind(**node, **given)
