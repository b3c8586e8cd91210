"""Descriptions of the learned parameters of encodings and temperatures, for reports."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from poslab.arguments import CheckedArguments


class VectorTable(NamedTuple):
    """Learned vectors, one row (N, D) for each distance or count; `first` is that of the first row."""

    rows: Tensor
    first: int = 0


class Described(CheckedArguments, nn.Module):
    """A module that names what its parameters stand for."""

    def learned(self) -> dict[str, Tensor]:
        """Return the learned quantities of the formula by name: here the parameters themselves.

        A class whose parameters act through a function, such as a softplus, returns the function's values and uses
        this method in its formula too. A submodule's quantities are named `part.name`.
        """
        return _learned_by(self)


def _learned_by(module: nn.Module) -> dict[str, Tensor]:
    found: dict[str, Tensor] = dict(module.named_parameters(recurse=False))
    for name, part in module.named_children():
        inner = part.learned() if isinstance(part, Described) else _learned_by(part)
        found |= {f"{name}.{own}": x for own, x in inner.items()}
    return found
