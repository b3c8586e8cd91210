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

    @property
    def num_tokens(self) -> int:
        """The most tokens that a model reads of it: input, output and one between them."""
        return len(self.input) + len(self.output) + 1


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

    def most_tokens(self, length: int) -> int:
        """Return the tokens of the longest example of a length; tasks whose examples differ in size work it out."""
        generator = np.random.default_rng(0)
        return max(self.example(length, generator).num_tokens for _ in range(32))
