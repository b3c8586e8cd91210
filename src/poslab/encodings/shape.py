"""Facts of a stack that encodings may take as arguments, and modules that show the others: their hyperparameters."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from poslab.arguments import CheckedArguments, Count, check_names, shown, with_checked_arguments

T = TypeVar("T")


@dataclass(frozen=True)
class PretrainedFacts:
    """Facts of a pretrained model.

    Args:
        training_length: tokens of the longest text of its training, from which scalings stretch.
        max_length: number of its learned position rows; None if it has none.
        base, fraction, layout, factor_on: of its own rotation, as in `Rotary`; None if it has none.
        spectrum: returns the inverse frequencies of that rotation, scaled as the model's own, at a length of the text.
        stretch: factor of that scaling; 1 without one.
    """

    training_length: int
    max_length: int | None = None
    base: float | None = None
    fraction: float | None = None
    layout: str | None = None
    factor_on: str | None = None
    spectrum: Callable[[int], Tensor] | None = field(default=None, compare=False)
    stretch: float = 1.0

    def fill(self, factory: Callable[..., T]) -> Callable[..., T]:
        """Return a factory with the facts bound that it was not given, in the factories bound in it too.

        The class of an encoding names those that it takes (`of_pretrained`); every scaling takes `training_length`.
        """
        function: Callable[..., T] = factory.func if isinstance(factory, partial) else factory
        given: dict[str, Any] = factory.keywords if isinstance(factory, partial) else {}
        takes = {"training_length", *getattr(function, "of_pretrained", ())}
        takes &= inspect.signature(function).parameters.keys() - given.keys()
        facts = {name: getattr(self, name) for name in takes}
        bound = {name: fact for name, fact in facts.items() if fact is not None}
        bound |= {name: self.fill(inner) for name, inner in given.items() if callable(inner)}
        return partial(factory, **bound) if bound else factory


@with_checked_arguments
@dataclass(frozen=True)
class StackShape:
    """Facts of a stack of attention layers, and of its vocabulary, that an encoding may take as arguments.

    Args:
        causal: True if a token sees only itself and those before it.
        digits: ids of the tokens that are one decimal digit each.
        pretrained: facts of a pretrained model; None for a Poslab model.
        others: as of a model.
    """

    d_model: Count
    num_layers: Count
    num_heads: Count
    num_kv_heads: Count
    head_dim: Count
    causal: bool = True
    digits: Sequence[int] = ()
    pretrained: PretrainedFacts | None = None

    def fill(self, factory: Callable[..., T], key: str = "encoding") -> T:
        """Call a factory with its arguments that are fields of the shape, or `shape`, and return the result.

        ValueError for an instance instead of its class, and for a partial that binds one of these arguments to another
        value than the stack's, or a name that the factory does not have.

        Args:
            factory: a class or function, or a partial of one.
            key: name of the factory in messages.
        """
        if isinstance(factory, nn.Module):
            raise ValueError(f"{key} must be a class or a partial of one, got the instance {factory}")
        check_names(factory)
        if self.pretrained is not None:
            factory = self.pretrained.fill(factory)
        bound = factory.keywords if isinstance(factory, partial) else {}
        parameters = inspect.signature(factory).parameters.keys() - bound.keys()
        known = {**vars(self), "shape": self}
        for name in known.keys() & bound.keys() - {"digits"}:  # an encoding may have its own vocabulary
            if bound[name] != known[name]:
                expected, other = shown(known[name]), shown(bound[name])
                raise ValueError(f"{name} must be {expected} as in the stack, got {other}: leave it out")
        return factory(**{name: value for name, value in known.items() if name in parameters})


OF_THE_STACK = (*(field.name for field in fields(StackShape)), "shape")
"""Arguments that a shape fills in; all others are hyperparameters."""


class TableShape(NamedTuple):
    """Sizes and device of tables: rows of the batch (1 is for all), T and S."""

    num_rows: int
    num_queries: int
    num_keys: int
    device: torch.device

    @classmethod
    def of(cls, query_table: Tensor, key_table: Tensor) -> TableShape:
        """Return the sizes of tables (B, heads, T, any) and (B, heads, S, any); fewer dimensions have no B."""
        rows = [x.shape[0] for x in (query_table, key_table) if x.dim() == 4]
        return cls(max(rows, default=1), query_table.shape[-2], key_table.shape[-2], key_table.device)


def require_heads(name: str, heads: int, num_heads: int) -> None:
    """Raise ValueError, starting with the name of an operand, unless it has one head for all H, or one for each."""
    if heads not in (1, num_heads):
        raise ValueError(f"{name} must have one head, or one for each of {num_heads}, got {heads}")


SIZES = ("num_heads", "num_kv_heads", "head_dim")  # arguments of encodings that are sizes of queries and keys


class VectorTable(NamedTuple):
    """Learned vectors, one row (N, D) for each distance or count; `first` belongs to the first row."""

    rows: Tensor
    first: int = 0


class Described(CheckedArguments, nn.Module):
    """A module that shows its hyperparameters, and names what its parameters represent."""

    sizes: Mapping[str, int] = MappingProxyType({})
    """Heads and width that it was made for: `num_heads`, `num_kv_heads` and `head_dim`, as far as they were given."""

    def __init__(self) -> None:
        super().__init__()  # nn.Module's has any arguments, and a configuration would accept all of them

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "__init__" in vars(cls):
            cls.__init__ = _remembering(cls.__init__)  # type: ignore[method-assign]

    def extra_repr(self) -> str:
        """Return the hyperparameters as Python shows them: `base=10000.0, fraction=1.0`."""
        if "_given" not in vars(self):  # none of its classes has a constructor
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
    """Return a constructor that keeps its arguments, unless a subclass's has called it and kept its own."""

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
