"""What every algorithmic task has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np


class Example(NamedTuple):
    """An input and the one right answer to it, as symbols.

    Args:
        input: symbols, at least one.
        output: symbols, at least one.
    """

    input: tuple[str, ...]
    output: tuple[str, ...]


class AlgorithmicTask(ABC):
    """Examples of any length, made by a rule from what a generator draws.

    Everything random in an example comes from the generator that is given: equally seeded, it makes equal examples.
    """

    stop: ClassVar[str | None] = None
    """The symbol that ends an output where more symbols fill it up, which no accuracy counts; None where none does."""

    @property
    @abstractmethod
    def symbols(self) -> tuple[str, ...]:
        """Every symbol that inputs and outputs are made of, each once, in a fixed order; a symbol becomes a token."""

    def has_length(self, length: int) -> bool:
        """Whether there are examples of a length, which the task's docstring says the meaning of; from 1 on."""
        return length >= 1

    @abstractmethod
    def example(self, length: int, generator: np.random.Generator) -> Example:
        """An example of a length that the task has."""
