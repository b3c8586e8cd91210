"""From a composed configuration to objects, with mistakes told in one sentence that names the key."""

from __future__ import annotations

import difflib
import inspect
import math
import pydoc
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from hydra.errors import InstantiationException
from hydra.utils import instantiate


def build(config: Mapping[str, Any], key: str, **arguments: Any) -> Any:
    """The object that `config[key]` describes with its `_target_`.

    Args:
        config: the whole configuration.
        key: the group, such as `encoding`.
        arguments: what the program itself passes on.

    Raises:
        ValueError: naming the full key, if a value has the wrong type or its owner refuses it.
    """
    node = config.get(key)
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise ValueError(f"{key} must have a _target_, as the choices in conf/{key} do")
    check_types(node, key)
    try:
        if not arguments:
            return instantiate(node, _convert_="all")
        # Hydra would make a dictionary of an argument that is a dataclass.
        return instantiate(node, _convert_="all", _partial_=True)(**arguments)
    except ValueError as error:
        raise ValueError(with_full_key(str(error), key, config)) from error
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError):
            raise ValueError(with_full_key(str(error.__cause__), key, config)) from error
        raise


def with_full_key(message: str, key: str, config: Mapping[str, Any]) -> str:
    """A message that begins with a bare argument name, with that name as typed on the command line.

    The argument belongs to the group `key` if that has it, or something within it has (the scaling of an encoding),
    else to the first group that does: an encoding may refuse the `d_model` of its model.
    """
    name = message.split(maxsplit=1)[0].partition("=")[0]
    groups = [key, *(group for group, node in config.items() if isinstance(node, Mapping))]
    owner = next((owner for group in groups for owner in _owners(name, config[group], group)), None)
    return message if owner is None else f"{owner}.{message}"


def _owners(name: str, node: Mapping[str, Any], path: str) -> Iterator[str]:
    """The dotted paths, outermost first, of what has a key of that name."""
    if name in node:
        yield path
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _owners(name, value, f"{path}.{key}")


def encoding_named(config: Mapping[str, Any]) -> str:
    """The encoding in a few words, with what it is made of and what goes around it: `Rotary (yarn, SSMax)`."""
    encoding = config["encoding"]
    parts = [value for value in encoding.values() if isinstance(value, Mapping)]
    parts += [config[group] for group in ("positions", "temperature") if config.get(group)]
    name, *inner = [str(part["_target_"]).rpartition(".")[2] for part in (encoding, *parts) if "_target_" in part]
    inner = [part for part in inner if part != "Contiguous"]
    return f"{name} ({', '.join(inner)})" if inner else name


def nearest(word: str, choices: Iterable[str]) -> str:
    """`; did you mean 'rotary'?` for the choice closest to a word, or nothing where none is close."""
    matches = difflib.get_close_matches(word, list(choices), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def check_types(node: Mapping[str, Any], key: str) -> None:
    """Raises ValueError if a value is not what the signature of the `_target_` asks for."""
    parameters = inspect.signature(target(node["_target_"], key), eval_str=True).parameters
    takes_any_name = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name, value in node.items():
        if name not in parameters:
            if not name.startswith("_") and not takes_any_name:
                raise ValueError(f"{key}.{name}: {node['_target_']} has no such argument{nearest(name, parameters)}")
            continue
        hint = parameters[name].annotation
        if isinstance(value, Mapping) and "_target_" in value:
            check_types(value, f"{key}.{name}")
        elif not _fits(value, hint):
            suggestion = nearest(str(value), _choices(hint))
            raise ValueError(f"{key}.{name} must be {_described(hint)}, got {_shown(value)}{suggestion}")


def target(path: Any, key: str) -> Callable[..., Any]:
    """What a `_target_` names; ValueError if that cannot be imported or called."""
    reason = ""
    try:
        found: Any = pydoc.locate(str(path))
    except pydoc.ErrorDuringImport as error:
        found, reason = None, f" ({error.value})"
    if not callable(found):
        raise ValueError(f"{key}._target_ must name a class that can be imported, got {_shown(path)}{reason}")
    return found


def _choices(hint: Any) -> list[str]:
    """The words that a type takes."""
    if get_origin(hint) is Literal:
        return [str(choice) for choice in get_args(hint)]
    if get_origin(hint) in (Union, types.UnionType):
        return [choice for option in get_args(hint) for choice in _choices(option)]
    return []


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if origin in (list, tuple, Sequence):
        return (
            isinstance(value, Sequence)
            and not isinstance(value, str)
            and all(_fits(item, get_args(hint)[0]) for item in value)
        )
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str, types.NoneType):
        return isinstance(value, hint)
    return True


def _described(hint: Any) -> str:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_described(option) for option in get_args(hint))
    if origin is Literal:
        return ("one of " if len(get_args(hint)) > 1 else "") + ", ".join(_choices(hint))
    if origin in (list, tuple, Sequence):
        return f"a list, each item {_described(get_args(hint)[0])}"
    names = {int: "an integer", float: "a number", bool: "true or false", str: "text", types.NoneType: "null"}
    return names.get(hint, str(hint))


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
