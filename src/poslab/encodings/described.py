"""Descriptions of encodings and temperatures: their hyperparameters, and their learned parameters for reports."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor, nn

from poslab.arguments import CheckedArguments
from poslab.encodings.shape import OF_THE_STACK

SIZES = ("num_heads", "num_kv_heads", "head_dim")
"""Arguments of encodings that are sizes of queries and keys."""


class VectorTable(NamedTuple):
    """Learned vectors, one row (N, D) for each distance or count; `first` is that of the first row."""

    rows: Tensor
    first: int = 0


class Described(CheckedArguments, nn.Module):
    """A module that shows its hyperparameters, and names what its parameters stand for."""

    sizes: Mapping[str, int] = MappingProxyType({})
    """Heads and width that it was made for: those of `num_heads`, `num_kv_heads` and `head_dim` that it was given."""

    def __init__(self) -> None:
        super().__init__()  # that of nn.Module has any arguments, of which a configuration would refuse none

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "__init__" in vars(cls):
            cls.__init__ = _remembering(cls.__init__)  # type: ignore[method-assign]

    def extra_repr(self) -> str:
        """Return the hyperparameters as Python shows them: `base=10000.0, fraction=1.0`."""
        if "_given" not in vars(self):  # no class of its own has a constructor
            return ""
        positional, named = vars(self)["_given"]
        bound = inspect.signature(type(self).__init__).bind(self, *positional, **named)
        bound.apply_defaults()
        hyperparameters = {
            name: value for name, value in bound.arguments.items() if name not in ("self", *OF_THE_STACK)
        }
        return _shown(hyperparameters)

    def learned(self) -> dict[str, Tensor]:
        """Return the learned quantities of the formula by name: here the parameters themselves.

        A class whose parameters act through a function, such as a softplus, returns the function's values and uses
        this method in its formula too. A submodule's quantities are named `part.name`.
        """
        return _learned_by(self)


def _remembering(constructor: Callable[..., None]) -> Callable[..., None]:
    """Return a constructor that keeps its arguments, unless that of a subclass has called it and kept its own."""

    @functools.wraps(constructor)
    def remember(self: Described, *positional: Any, **named: Any) -> None:
        if "_given" not in vars(self):
            given = inspect.signature(constructor).bind(self, *positional, **named).arguments
            known = {**vars(given.get("shape", object)), **given}
            vars(self)["_given"] = (positional, named)
            vars(self)["sizes"] = {name: known[name] for name in SIZES if type(known.get(name)) is int}
        constructor(self, *positional, **named)

    return remember


def _shown(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in arguments.items())


def _value(value: Any) -> str:
    """Return an argument as Python shows it, a class or function by its name, a partial as the call that it makes."""
    if isinstance(value, partial):
        return f"{_value(value.func)}({_shown(value.keywords)})"
    return getattr(value, "__name__", None) or repr(value)


def _learned_by(module: nn.Module) -> dict[str, Tensor]:
    quantities: dict[str, Tensor] = dict(module.named_parameters(recurse=False))
    for name, part in module.named_children():
        inner = part.learned() if isinstance(part, Described) else _learned_by(part)
        quantities |= {f"{name}.{part_name}": x for part_name, x in inner.items()}
    return quantities
