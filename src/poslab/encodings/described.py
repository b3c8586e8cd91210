"""Descriptions of the learned parameters of encodings and temperatures, for reports."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from poslab.arguments import CheckedArguments


class VectorTable(NamedTuple):
    """Learned vectors, a row for each distance or count.

    Args:
        rows: (N, D).
        first: the distance or count of the first row; each further row is that of the next number.
    """

    rows: Tensor
    first: int = 0


class Described(CheckedArguments, nn.Module):
    """A module that names what its parameters stand for."""

    def learned(self) -> dict[str, Tensor]:
        """Return what the parameters stand for in the formula, by name: here the parameters as they are.

        A class whose parameters act through a function, such as a softplus, gives what comes out of it, and calls this
        method in its formula too. What a part has learned is under `part.name`.
        """
        return _learned_by(self)


def _learned_by(module: nn.Module) -> dict[str, Tensor]:
    found: dict[str, Tensor] = dict(module.named_parameters(recurse=False))
    for name, part in module.named_children():
        inner = part.learned() if isinstance(part, Described) else _learned_by(part)
        found |= {f"{name}.{own}": x for own, x in inner.items()}
    return found
