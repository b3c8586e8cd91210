"""Search space of a sweep: keys of a run's configuration, and the values to try."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import BaseTrial

from poslab.configuration.build import nearest

KINDS = ("float", "int", "choices")
WORDS = (*KINDS, "log", "step", "when")

Values = dict[str, Any]
"""Values by key of the configuration, as on the command line: `{"encoding": "t5", "encoding.max_distance": 128}`."""


@dataclass(frozen=True)
class Parameter:
    """A key that is searched: a dotted key, or a config group."""

    key: str
    name: str  # in the study: the key, with its condition if the key has several ranges
    distribution: BaseDistribution
    when: Mapping[str, tuple[Any, ...]]  # by key, the values of other parameters under which this one exists

    def exists(self, values: Mapping[str, Any]) -> bool:
        """Return whether it is searched under these values of earlier parameters."""
        return all(key in values and values[key] in allowed for key, allowed in self.when.items())

    @property
    def ends(self) -> tuple[Any, ...]:
        """Its smallest and its largest value, or all choices."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.distribution.choices
        assert isinstance(self.distribution, FloatDistribution | IntDistribution)
        return (self.distribution.low, self.distribution.high)


class Space:
    """Parameters in order, each for all trials or for trials in which earlier ones have certain values.

    Args:
        node: the `space` of a sweep file, by key:
            `{float: [low, high]}` and `{int: [low, high]}`, both ends included, with `log: true` for a logarithmic
            scale or `step: 0.25` for a grid; `{choices: [...]}`; each with `when: {key: value or list}`. A list of such
            nodes gives one key several ranges, each under its own condition.

    Raises:
        ValueError: for an empty or invalid space, naming the key.
    """

    def __init__(self, node: Mapping[str, Any]) -> None:
        if not isinstance(node, Mapping) or not node:
            raise ValueError("space must name at least one key, as in {encoding.base: {float: [1000, 100000]}}")
        self.node = dict(node)
        self.parameters: list[Parameter] = []
        for key, described in node.items():
            several = isinstance(described, list)
            for node_of_range in described if several else [described]:
                self.parameters.append(self._parameter(str(key), node_of_range, several))

    def suggest(self, trial: BaseTrial) -> Values:
        values: Values = {}
        for parameter in self.parameters:
            if parameter.exists(values):
                name, among = parameter.name, parameter.distribution
                if isinstance(among, CategoricalDistribution):
                    values[parameter.key] = trial.suggest_categorical(name, among.choices)
                elif isinstance(among, IntDistribution):
                    suggested = trial.suggest_int(name, among.low, among.high, step=among.step, log=among.log)
                    values[parameter.key] = suggested
                elif isinstance(among, FloatDistribution):
                    value = trial.suggest_float(name, among.low, among.high, step=among.step, log=among.log)
                    values[parameter.key] = value
        return values

    def values(self, params: Mapping[str, Any]) -> Values:
        """Return the values of a trial by key, from its parameters by name."""
        return {parameter.key: params[parameter.name] for parameter in self.parameters if parameter.name in params}

    def contains(self, params: Mapping[str, Any]) -> bool:
        """Return whether parameters, by name, are a point of this space."""
        values: Values = {}
        for parameter in self.parameters:
            if parameter.exists(values):
                if parameter.name not in params or not _holds(parameter.distribution, params[parameter.name]):
                    return False
                values[parameter.key] = params[parameter.name]
        return len(values) == len(params)

    def defaults(self, default: Mapping[str, Any]) -> Values:
        """Return the parameters of trial 0 by name, from the values of the configuration by key.

        ValueError for a default outside of the values of its parameter: the gain of tuning would be unknown.
        """
        values: Values = {}
        by_name: Values = {}
        for parameter in self.parameters:
            if parameter.exists(values):
                value = default[parameter.key]
                if not _holds(parameter.distribution, value):
                    raise ValueError(
                        f"space.{parameter.key} must contain its default, which is trial 0: {value!r} is not "
                        f"{described(parameter.distribution)}"
                    )
                values[parameter.key] = by_name[parameter.name] = value
        return by_name

    def corners(self) -> Iterator[tuple[Parameter, Values]]:
        """Yield each parameter at each of its ends, with the values that it needs to exist."""
        for parameter in self.parameters:
            for end in parameter.ends:
                yield parameter, {**self._made_to_exist(parameter), parameter.key: end}

    def _made_to_exist(self, parameter: Parameter) -> Values:
        values: Values = {}
        for key, allowed in parameter.when.items():
            parent = next(p for p in self.parameters if p.key == key)
            values |= {**self._made_to_exist(parent), key: allowed[0]}
        return values

    def _parameter(self, key: str, node: Any, several: bool) -> Parameter:
        if not isinstance(node, Mapping) or sum(kind in node for kind in KINDS) != 1:
            raise ValueError(f"space.{key} must be {{float: [low, high]}}, {{int: [low, high]}} or {{choices: [...]}}")
        if unknown := [word for word in node if word not in WORDS]:
            raise ValueError(f"unknown key 'space.{key}.{unknown[0]}'{nearest(str(unknown[0]), WORDS)}")
        conditions = node.get("when") or {}
        if not isinstance(conditions, Mapping) or [] in conditions.values():
            raise ValueError(f"space.{key}.when must be values by key, as in {{encoding: t5}}, got {conditions!r}")
        when = {str(k): tuple(v) if isinstance(v, list) else (v,) for k, v in conditions.items()}
        for parent, allowed in when.items():
            before = next((p.distribution for p in self.parameters if p.key == parent), None)
            if not isinstance(before, CategoricalDistribution):
                raise ValueError(f"space.{key}.when.{parent} must be a parameter with choices that precedes it")
            if others := [value for value in allowed if value not in before.choices]:
                raise ValueError(f"space.{key}.when.{parent} must be one of {list(before.choices)}, got {others[0]!r}")
        if several and not when:
            raise ValueError(f"space.{key} has several ranges: each needs a condition, as in when: {{encoding: t5}}")
        condition = ", ".join(f"{parent}={'|'.join(map(str, allowed))}" for parent, allowed in when.items())
        return Parameter(key, f"{key} ({condition})" if several else key, _distribution(key, node), when)


def _distribution(key: str, node: Mapping[str, Any]) -> BaseDistribution:
    """Return the distribution of a node; raise ValueError if the node does not describe one."""
    log, step = node.get("log", False), node.get("step")
    try:
        if "choices" in node:
            choices = node["choices"]
            if not isinstance(choices, list) or not all(
                isinstance(c, bool | int | float | str | None) for c in choices
            ):
                raise ValueError(f"choices must be a list of numbers, words, true, false or null, got {choices!r}")
            if len(set(choices)) < len(choices):  # Optuna does not distinguish 1, 1.0 and true
                raise ValueError(f"choices must all be different, got {choices!r}")
            return CategoricalDistribution(choices)
        kind = "int" if "int" in node else "float"
        ends, kinds = node[kind], (int,) if kind == "int" else (int, float)
        if not isinstance(ends, list) or len(ends) != 2 or not all(type(x) in kinds and math.isfinite(x) for x in ends):
            raise ValueError(f"{kind} must be two {'integers' if kind == 'int' else 'numbers'}, got {ends!r}")
        if kind == "int":
            return IntDistribution(ends[0], ends[1], log=log, step=1 if step is None else step)
        return FloatDistribution(float(ends[0]), float(ends[1]), log=log, step=step)
    except (TypeError, ValueError) as error:
        raise ValueError(f"space.{key}: {error}") from error


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return any(type(choice) is type(value) and choice == value for choice in distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    kinds = (int,) if isinstance(distribution, IntDistribution) else (int, float)
    if type(value) not in kinds or not distribution.low <= value <= distribution.high:
        return False
    steps = 0.0 if distribution.step is None else (value - distribution.low) / distribution.step
    return math.isclose(steps, round(steps), abs_tol=1e-9)


def described(distribution: BaseDistribution) -> str:
    """Return the values of a parameter in words."""
    if isinstance(distribution, CategoricalDistribution):
        return f"one of {list(distribution.choices)}"
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    grid = f" in steps of {distribution.step}" if distribution.step not in (None, 1) else ""
    return f"from {distribution.low:g} to {distribution.high:g}{grid}"
