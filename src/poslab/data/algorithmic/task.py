"""The base classes of algorithmic tasks, their examples, and random strings of symbols."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, NamedTuple, dataclass_transform

import numpy as np

from poslab.arguments import Range, with_checked_arguments

AtLeastOne = Annotated[int, Range(at_least=1)]
AtLeastTwo = Annotated[int, Range(at_least=2)]
"""Types of a task's arguments."""
BLANK = "__"
"""The symbol of an input that a symbol of the output replaces."""


class Example(NamedTuple):
    """An input and the one right answer to it, each of at least one symbol.

    The output follows the input. If the input has blanks, not at its beginning, the output is what fills them in their
    order.
    """

    input: tuple[str, ...]
    output: tuple[str, ...]

    @property
    def num_tokens(self) -> int:
        """The most tokens that a model reads: input, output and one between them, or with blanks all but the last."""
        return len(self.input) - 1 if BLANK in self.input else len(self.input) + len(self.output) + 1


@dataclass_transform(frozen_default=True)
class AlgorithmicTask(ABC):
    """Examples of any length, made by a rule from the draws of a generator.

    Equally seeded generators make equal examples. The docstring of a task defines its lengths. Every task is a
    dataclass: its attributes with an annotation are arguments, of the type and in the range that this declares.

    Raises:
        ValueError: if an argument of a task is of another type, or out of its range.
    """

    stop: ClassVar[str | None] = None
    """The symbol that ends an output where others fill it up, which no accuracy counts; None where none does."""

    shortest: ClassVar[int] = 1
    """The shortest length."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        with_checked_arguments(dataclass(frozen=True)(cls))
        del cls.__setattr__, cls.__delattr__  # a subclass that is decorated as a dataclass would be rejected

    @property
    @abstractmethod
    def symbols(self) -> tuple[str, ...]:
        """All symbols of inputs and outputs, each once, in a fixed order; a symbol becomes a token."""

    def has_length(self, length: int) -> bool:
        """Return whether there are examples of a length, by default of at least `shortest`."""
        return length >= self.shortest

    @abstractmethod
    def example(self, length: int, generator: np.random.Generator) -> Example:
        """Draw an example of a length that the task has."""

    def most_tokens(self, length: int) -> int:
        """Return the tokens of the longest example of a length; tasks whose examples differ in size override it."""
        generator = np.random.default_rng(0)
        return max(self.example(length, generator).num_tokens for _ in range(32))


def draw(symbols: Sequence[str], length: int, generator: np.random.Generator) -> tuple[str, ...]:
    """Draw a string of that length; all symbols are equally likely at each position."""
    # All at once, and then Python's own integers: one draw a symbol costs a microsecond each.
    return tuple([symbols[index] for index in generator.integers(len(symbols), size=length).tolist()])


@cache
def numbered(count: int, prefix: str = "") -> tuple[str, ...]:
    """Return symbols numbered from 0: `numbered(3, "k")` is ("k0", "k1", "k2")."""
    return tuple([f"{prefix}{number}" for number in range(count)])
