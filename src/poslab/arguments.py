"""Types and ranges of arguments, declared once in a signature, for the command line and for Python alike.

    class Kettle(CheckedArguments):
        def __init__(self, litres: Positive, cups: Count = 1, heat: Literal["low", "high"] = "low") -> None: ...

`Kettle(litres=-1)` raises "litres must be a positive number, got -1". Imports no other module of the laboratory.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import math
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """Range of an argument, as a part of its annotation: `Annotated[float, Range(above=0, at_most=1)]`.

    `at_least` and `at_most` are inclusive ends, `above` and `below` exclusive ones.
    """

    at_least: float = -math.inf
    at_most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.at_least <= value <= self.at_most and self.above < value < self.below

    def described(self, kind: str) -> str:
        """Return the range in words, for `an integer` or `a number`."""
        least, most = max(self.at_least, self.above), min(self.at_most, self.below)
        if math.isinf(least):
            return f"{kind} of at most {most}"
        if math.isfinite(most):
            first, last = "[" if least == self.at_least else "(", "]" if most == self.at_most else ")"
            ends = [f"{end}" if isinstance(end, int) else f"{end:g}" for end in (least, most)]
            return f"{kind} in {first}{', '.join(ends)}{last}"
        if self.above == 0 or (self.at_least == 1 and kind == INTEGER):
            return f"a positive {kind.partition(' ')[2]}"
        return f"{kind} {'of at least' if least == self.at_least else 'greater than'} {least}"


INTEGER, NUMBER = "an integer", "a number"

LARGEST = sys.float_info.max

MAX_LISTED = 12  # choices that a message lists; `--help` lists more

NOT_HUGE = Range(at_most=2**31 - 1)
"""Limit of sizes and positions: more than fits in any memory, and small enough that sums and products stay exact."""

NOT_EXTREME = Range(at_least=-1e9, at_most=1e9)
"""Limits of numbers that meet others in float32, so that no result is infinite."""

Count = Annotated[int, Range(at_least=1), NOT_HUGE]
"""Size: an integer of at least 1."""

Positive = Annotated[float, Range(above=0), Range(at_least=1e-9), Range(at_most=1e9)]
"""Number above 0 whose inverse, and whose product with others, float32 can represent."""

Factor = Annotated[float, Range(at_least=1), NOT_EXTREME]
"""Number by which something grows: 1 leaves it unchanged."""

Fraction = Annotated[float, Range(at_least=0, at_most=1)]
"""Part of a whole, which may be nothing or all."""

PositiveFraction = Annotated[float, Range(above=0, at_most=1)]
"""Part of a whole that is not nothing."""


class CheckedArguments:
    """Base class whose constructor, also in each subclass, accepts only what its signature declares."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "__init__" in vars(cls):
            with_checked_arguments(cls)


def with_checked_arguments(cls: type[T]) -> type[T]:
    """Return a class, such as a dataclass, whose constructor accepts only what its signature declares."""
    for base in filter(dataclasses.is_dataclass, cls.__bases__):
        # Annotations of inherited fields are texts, with names of the module of the base.
        inherited = get_type_hints(base, include_extras=True)
        for name in cls.__init__.__annotations__.keys() & inherited.keys() - inspect.get_annotations(cls).keys():
            cls.__init__.__annotations__[name] = inherited[name]
    cls.__init__ = checked(cls.__init__)  # type: ignore[method-assign]
    return cls


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """Return the function with its arguments checked: ValueError for a value that its signature does not declare."""

    @functools.cache
    def signature() -> inspect.Signature:  # deferred, since annotations may name what is defined after the function
        return inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    def call(*positional: P.args, **named: P.kwargs) -> T:
        check_arguments(signature().bind(*positional, **named).arguments, signature().parameters)
        return function(*positional, **named)

    return call


def check_arguments(values: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter], key: str = "") -> None:
    """Raise ValueError for the first value that is not what its parameter declares.

    Args:
        values: values by the name of their parameter.
        parameters: of a signature whose annotations are evaluated.
        key: prefix of the names in messages, such as `encoding.`.
    """
    for name, value in values.items():
        hint = parameters[name].annotation
        several = parameters[name].kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if not several and not _fits(value, hint):
            suggestion = nearest(str(value), _choices(hint))
            if isinstance(value, str) and value.isidentifier() and _fits([value], hint):
                suggestion = f"; did you mean '[{value}]'?"
            raise ValueError(f"{key}{name} must be {_described(hint, value)}, got {shown(value)}{suggestion}")


def needed(cls: type) -> list[str]:
    """Return the names of the fields of a dataclass that have no default."""
    no = dataclasses.MISSING
    return [x.name for x in dataclasses.fields(cls) if x.default is no and x.default_factory is no]


def check_names(factory: Callable[..., Any]) -> None:
    """Raise ValueError for a partial that binds a name which is not an argument of its function."""
    if not isinstance(factory, functools.partial):
        return
    names = inspect.signature(factory.func).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in names.values())
    if wrong := next((name for name in factory.keywords if not takes_any and name not in names), None):
        raise ValueError(f"{factory.func.__name__} has no argument {wrong}{nearest(wrong, names)}")


def nearest(word: str, choices: Iterable[str], cutoff: float = 0.6) -> str:
    """Return `; did you mean 'rotary'?` for the choice closest to a word or begun by it, or "" if there is none."""
    choices, lower = list(choices), word.lower()
    same = [choice for choice in choices if choice.lower() == lower and choice != word]
    begun = [choice for choice in choices if len(word) > 3 and re.fullmatch(re.escape(lower) + r"[\w-]*", choice)]
    close = [match for text in (word, lower) for match in difflib.get_close_matches(text, choices, 1, cutoff)]
    matches = same or begun or close
    return f"; did you mean {matches[0]!r}?" if matches else ""


def nearest_or_list(word: str, choices: Iterable[str], listing: str) -> str:
    """Return `nearest`, or a hint with all choices where none is near, or with `listing` where they are many."""
    choices = list(choices)
    few = f"choose one of {', '.join(choices)}" if 0 < len(choices) <= MAX_LISTED else listing
    return nearest(word, choices) or f"; hint: {few}"


def _choices(hint: Any) -> list[str]:
    """Return the words that a type allows."""
    if get_origin(hint) is Literal:
        return [str(choice) for choice in get_args(hint)]
    if get_origin(hint) in (Union, types.UnionType):
        return [choice for option in get_args(hint) for choice in _choices(option)]
    return []


def _fits(value: Any, hint: Any) -> bool:
    origin = _origin(hint)
    if hint is Any:
        return True
    if origin is Annotated:
        plain, *limits = get_args(hint)
        return _fits(value, plain) and all(value in limit for limit in limits if isinstance(limit, Range))
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if origin in (list, tuple, Sequence):
        is_list = isinstance(value, Sequence) and not isinstance(value, str)
        kinds = _item_kinds(hint, len(value)) if is_list else []
        return is_list and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if origin in (dict, Mapping):
        key, item = get_args(hint) or (Any, Any)
        return isinstance(value, origin) and all(_fits(k, key) and _fits(v, item) for k, v in value.items())
    if hint is float:
        return _is_number(value, Real) and -LARGEST <= value <= LARGEST
    if hint is int:
        return _is_number(value, Integral)
    if origin is Callable:
        return callable(value)
    is_class = isinstance(hint, type) and hint not in (inspect.Parameter.empty, Any)  # a class since Python 3.11
    return not is_class or getattr(hint, "_is_protocol", False) or isinstance(value, hint)


def _origin(hint: Any) -> Any:
    """Return the origin of a type; a `list` or `tuple` of any items has one too."""
    return hint if hint in (list, tuple, Sequence) else get_origin(hint)


def _item_kinds(hint: Any, count: int) -> list[Any]:
    """Return the types of the items of a list of `count`, or of a tuple, which may have a type for each."""
    kinds = get_args(hint) or (Any,)
    return list(kinds) if _is_record(hint) else [kinds[0]] * count


def _is_record(hint: Any) -> bool:
    """Return True for a tuple with a type for each item, such as `tuple[int, str]`."""
    return get_origin(hint) is tuple and bool(get_args(hint)) and ... not in get_args(hint)


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _described(hint: Any, value: Any) -> str:
    """Return a type in words; of its ranges the first that a number is out of."""
    origin = _origin(hint)
    if origin is Annotated:
        plain, *limits = get_args(hint)
        kind = _described(plain, value)
        is_number = _fits(value, plain) or (isinstance(value, float) and not math.isfinite(value))
        broken = (limit for limit in limits if isinstance(limit, Range) and is_number and value not in limit)
        limit = next(broken, None)
        return kind if limit is None else limit.described(kind)
    if origin in (Union, types.UnionType):
        # An integer is a number. Which of the two comes first depends on the unions that Python has cached.
        kinds = [option for option in get_args(hint) if option is not int or float not in get_args(hint)]
        texts = [_described(option, value) for option in kinds]
        # Without a comma, null would be one of the items.
        return (", or " if any(text.startswith("a list") and " or " in text for text in texts) else " or ").join(texts)
    if origin is Literal:
        return ("one of " if len(get_args(hint)) > 1 else "") + ", ".join(_choices(hint))
    if origin in (list, tuple, Sequence):
        items = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
        kinds = list(get_args(hint)) if _is_record(hint) else _item_kinds(hint, 1)
        if len(set(kinds)) > 1:
            return f"a list of {len(kinds)} items, {', '.join(_described(kind, None) for kind in kinds)}"
        if kinds == [Any]:
            return "a list"
        item = _described(kinds[0], next((x for x in items if not _fits(x, kinds[0])), None))
        return f"a list of {len(kinds)} items, each {item}" if _is_record(hint) else f"a list, each item {item}"
    if origin in (dict, Mapping):
        return "values by name"
    names = {int: INTEGER, float: NUMBER, bool: "true or false", str: "text", types.NoneType: "null", Any: "anything"}
    if origin is Callable:
        return "a class or function"
    return names.get(hint) or f"a {getattr(hint, '__name__', hint)}"


def shown(value: Any) -> str:
    """Return a value as typed on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
