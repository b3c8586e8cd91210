"""Objects built from a configuration, with mistakes reported in one sentence that names the key."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Union, get_args, get_origin

from poslab.arguments import check_arguments, shown
from poslab.arguments import nearest as nearest  # re-exported for readers of a configuration

DATA = "data"
"""The word among the packages of `trust=` that trusts no package: it lets a run read its data from where it says."""

NAMES_IN_PAPERS = {
    "rope": "rotary",
    "nope": "none",
    "fox": "forgetting",
    "ntk": "rope_ntk",
    "sin": "sinusoidal",
    **dict.fromkeys(("absolute", "ape"), "learned' or 'sinusoidal"),
    **dict.fromkeys(("relative", "rpe"), "shaw' or 't5"),
    "t5_bias": "t5",
    **dict.fromkeys(("pi", "linear", "position_interpolation"), "rope_linear"),
    "dynamic_ntk": "rope_dynamic_ntk",
    "irope": "rnope",
}
"""Names that the literature gives to encodings, where the nearest of Poslab is another one, or none is near."""

FACTORIES = "poslab.encodings"
"""The package whose functions, besides its classes, may be named. Functions elsewhere could build a configuration."""


def nearest_encoding(name: str, choices: Iterable[str]) -> str:
    """Return `nearest`, but for a name that the literature has for one of our encodings that encoding."""
    ours, choices = NAMES_IN_PAPERS.get(name.lower(), ""), list(choices)
    return f"; did you mean '{ours}'?" if ours.partition("'")[0] in choices else nearest(name, choices)


def build(config: Mapping[str, Any], key: str, kind: Any, root: str = "poslab", **arguments: Any) -> Any:
    """Build the object that `config[key]` describes with its `_target_`; ValueError, naming the full key, for a misfit.

    A configuration may be untrusted, so a `_target_` must name a class of the kind that its key allows, defined in
    `root` or in a package that the user trusts (`config["trust"]`). The name is checked before anything is imported,
    then the object. Nothing else in a configuration has an effect: interpolations and Hydra's other special keys stay
    plain values. An argument whose class declares `inline_fields`, such as a stack, has its fields inline.

    Args:
        key: group, such as `encoding`.
        kind: annotation that the object must fit. A class is built; for `Callable[..., X]` the result is a factory of X
            with the arguments of the node bound, with or without `_partial_` in the node.
        root: package that is always trusted.
        arguments: further arguments of the object, passed by the program itself.
    """
    node = config.get(key)
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise ValueError(f"{key} must have a _target_, as the choices in conf/{key.partition('.')[0]} do")
    with full_keys(key, config):
        return _built(node, key, kind, (root, *trusted_packages(config)), arguments)


def build_each(config: Mapping[str, Any], group: str, kind: Any) -> dict[str, Any]:
    """Build every node of a group that has any number of them by name, such as `callbacks`; errors as of `build`."""
    nodes = config.get(group) or {}
    if not isinstance(nodes, Mapping):
        raise ValueError(f"{group} must contain nodes by name, as the choices in conf/{group} do")
    keyed = {"trust": config.get("trust"), **{f"{group}.{name}": node for name, node in nodes.items()}}
    return {name: build(keyed, f"{group}.{name}", kind) for name in nodes}


def is_pretrained(model: Any) -> bool:
    """Return True for the node of a pretrained model."""
    return isinstance(model, Mapping) and str(model.get("_target_")).startswith("poslab.pretrained.")


def trusted_packages(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the packages that the user trusts besides Poslab; raise ValueError if they are not names of packages."""
    return package_names(config.get("trust") or ())


def package_names(trust: Any) -> tuple[str, ...]:
    """Return the packages that `trust` names, one or several; raise ValueError if it is anything else."""
    packages = (trust,) if isinstance(trust, str) else trust
    if not isinstance(packages, list | tuple) or not all(isinstance(x, str) and _NAME.fullmatch(x) for x in packages):
        raise ValueError(f"trust must name packages, as in trust=my_package or trust=[one,another], got {trust!r}")
    return tuple(packages)


def _built(
    node: Mapping[str, Any], key: str, kind: Any, trusted: Sequence[str], arguments: Mapping[str, Any] | None = None
) -> Any:
    """Build a node and the nodes nested in it."""
    maker = target(node["_target_"], key, kind, trusted)
    parameters = _parameters(maker)
    # Hydra needs `_partial_`; here the kind decides.
    given = {k: v for k, v in node.items() if k != "_target_" and not (k == "_partial_" and isinstance(v, bool))}
    more = {name: value for name, value in (arguments or {}).items() if name not in parameters}
    values = {
        name: _flat(parameter.annotation, given, more, key, trusted)
        for name, parameter in parameters.items()
        if name not in given and _is_flat(parameter)
    }
    given |= more
    any_name = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name, value in given.items():
        is_extra = any_name and isinstance(name, str) and not name.startswith("_")
        if name not in parameters and not is_extra:
            meant = nearest(str(name), keys_of(maker))
            raise ValueError(f"{key}.{name}: {node['_target_']} has no such argument{meant}")
        hint = parameters[name].annotation if name in parameters else Any
        values[name] = _with_nodes_built(value, f"{key}.{name}", hint, trusted)
    check_arguments({name: values[name] for name in values if name in parameters}, parameters, f"{key}.")
    values |= {name: value for name, value in (arguments or {}).items() if name in parameters}
    if _is_factory_of(maker, kind):
        return partial(maker, **values)
    for name, parameter in parameters.items():
        is_one = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if is_one and parameter.default is parameter.empty and name not in values:
            raise ValueError(f"{key}.{name} must be given: {node['_target_']} needs it")
    return maker(**values)


def keys_of(maker: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a class or factory as keys of its node, including the fields of a flat argument."""
    keys: dict[str, inspect.Parameter] = {}
    for name, parameter in _parameters(maker).items():
        keys |= keys_of(parameter.annotation) if _is_flat(parameter) else {name: parameter}
    return keys


def _is_flat(parameter: inspect.Parameter) -> bool:
    """Return True if the fields of an argument's class are keys of the node itself (`inline_fields`)."""
    return isinstance(parameter.annotation, type) and getattr(parameter.annotation, "inline_fields", False)


def _flat(kind: type, given: dict[str, Any], more: dict[str, Any], key: str, trusted: Sequence[str]) -> Any:
    """Build a flat argument from its fields in the node and in the program's arguments, and remove them from both."""
    parameters = _parameters(kind)
    fields = {name: given.pop(name) for name in list(given) if name in parameters}
    values = {
        name: _with_nodes_built(value, f"{key}.{name}", parameters[name].annotation, trusted)
        for name, value in fields.items()
    }
    check_arguments(values, parameters, f"{key}.")
    values |= {name: more.pop(name) for name in list(more) if name in parameters}
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in values:
            raise ValueError(f"{key}.{name} must be given: {kind.__name__} needs it")
    return kind(**values)


def _with_nodes_built(value: Any, key: str, hint: Any, trusted: Sequence[str]) -> Any:
    """Return the value of an argument with every node in it built."""
    if isinstance(value, Mapping) and "_target_" in value:
        if hint is Any:
            raise ValueError(f"{key} must not have a _target_")
        return _built(value, key, hint, trusted)
    if isinstance(value, Mapping) and (kind := next((x for x in _options(hint) if hasattr(x, "plain_node")), None)):
        return _built({"_target_": f"{kind.__module__}.{kind.__qualname__}", **value}, key, kind, trusted)
    if isinstance(value, list) and (items := _items(hint)) is not None:
        return [_with_nodes_built(item, f"{key}[{index}]", items, trusted) for index, item in enumerate(value)]
    return value


@contextlib.contextmanager
def full_keys(key: str, config: Mapping[str, Any]) -> Iterator[None]:
    """Name an argument in a ValueError as typed on the command line; `key` and `config` as of `with_full_key`."""
    try:
        yield
    except ValueError as error:
        raise ValueError(with_full_key(str(error), key, config)) from error


def with_full_key(message: str, key: str, config: Mapping[str, Any]) -> str:
    """Return a message that starts with a bare argument name, with that name as typed on the command line.

    The argument belongs to the group `key` if that has it, or a node in it has (the scaling of an encoding), else to
    the first group that does: an encoding may not accept the `d_model` of its model.
    """
    name = next(iter(message.split(maxsplit=1)), "").partition("=")[0]
    groups = [key, *(group for group, node in config.items() if isinstance(node, Mapping))]
    owner = next((owner for group in groups for owner in _owners(name, config[group], group)), None)
    return message if owner is None else f"{owner}.{message}"


def _owners(name: str, node: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield the dotted paths, outermost first, of the nodes that have a key of that name."""
    if name in node:
        yield path
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _owners(name, value, f"{path}.{key}")
        elif isinstance(value, list):
            items = [(f"{path}.{key}[{index}]", item) for index, item in enumerate(value) if isinstance(item, Mapping)]
            owners = [owner for item_path, item in items for owner in _owners(name, item, item_path)]
            yield from owners if len(owners) == 1 else ()  # of several, it is not known which


def target(path: Any, key: str, kind: Any, trusted: Sequence[str]) -> Callable[..., Any]:
    """Return the class or factory that a `_target_` names; ValueError if it makes something else than `kind`.

    It is imported, and must be defined, in one of the `trusted` packages, our own first. `key` is of its node.
    """
    if not isinstance(path, str) or not _DOTTED_NAME.fullmatch(path):
        raise ValueError(f"{key}._target_ must name a class, as in poslab.encodings.Rotary, got {shown(path)}")
    if not _is_within(path, trusted):
        package = path.partition(".")[0]
        others = f" (trusted so far: {', '.join(trusted[1:])})" if len(trusted) > 1 else ""
        raise ValueError(
            f"{key}._target_ names {path}, which is not part of {trusted[0]} and could run any code: "
            f"if you trust it, add trust={package}{others}"
        )
    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
        maker = getattr(module, name, None)  # some packages import their parts only now
    except Exception as error:  # a module of the user's own may raise anything
        raise ValueError(f"{key}._target_ must name a class that can be imported, got {path} ({error})") from error
    if maker is None:
        raise ValueError(f"{key}._target_: {module_name} has no {name}{nearest(name, vars(module))}")
    home = str(getattr(maker, "__module__", ""))
    is_class = isinstance(maker, type) and not inspect.isabstract(maker) and _is_within(home, trusted)
    is_factory = isinstance(maker, types.FunctionType) and _is_within(home, (FACTORIES, *trusted[1:]))
    is_of_kind = _is_factory_of(maker, kind) or any(_is_a(_made_by(maker), option) for option in _options(kind))
    if not ((is_class or is_factory) and is_of_kind):
        made = [get_args(option)[1] if get_origin(option) is Callable else option for option in _options(kind)]
        names = [option.__name__ for option in made if isinstance(option, type) and option is not types.NoneType]
        kinds = f"a {' or '.join(names)}" if names else "a supported class"
        raise ValueError(f"{key}._target_ must name {kinds}, got {path}")
    return maker


_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_DOTTED_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def _is_within(path: str, packages: Sequence[str]) -> bool:
    return any(f"{path}.".startswith(f"{package}.") for package in packages if package != DATA)


def _parameters(maker: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a class or function with types as annotations; Any where one cannot be evaluated."""
    try:
        return inspect.signature(maker, eval_str=True).parameters
    except NameError:  # a name that only type checkers import
        init = inspect.unwrap(vars(maker)["__init__"] if isinstance(maker, type) else maker)
        return {
            name: parameter.replace(annotation=_evaluated(parameter.annotation, init.__globals__))
            for name, parameter in inspect.signature(maker).parameters.items()
        }


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    try:
        return eval(annotation, names) if isinstance(annotation, str) else annotation
    except NameError:
        return Any


def _options(hint: Any) -> list[Any]:
    """Return the types of a union, or a type itself."""
    return list(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else [hint]


def _items(hint: Any) -> Any:
    """Return the type of the items of a list; None for other types."""
    lists = [option for option in _options(hint) if get_origin(option) in (list, tuple, Sequence)]
    return next((kind for option in lists for kind in (*get_args(option), Any)), None)


def _made_by(maker: Callable[..., Any]) -> Any:
    """Return the type that a class or function makes."""
    if isinstance(maker, type):
        return maker
    return _evaluated(maker.__annotations__.get("return"), inspect.unwrap(maker).__globals__)


def _is_a(made: Any, kind: Any) -> bool:
    return kind is Any or made == kind or (isinstance(made, type) and isinstance(kind, type) and issubclass(made, kind))


def _is_factory_of(maker: Callable[..., Any], kind: Any) -> bool:
    """Return True if a key takes the class or function itself, not the object that it makes."""
    made = _made_by(maker)
    return any(get_origin(x) is Callable and _is_a(made, get_args(x)[1]) for x in _options(kind))
