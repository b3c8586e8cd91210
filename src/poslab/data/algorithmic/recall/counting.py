"""Values of variables that a program sets and counts up."""

from collections.abc import Iterator
from string import ascii_lowercase
from typing import Annotated

import numpy as np

from poslab.arguments import Range
from poslab.data.algorithmic.strings import numbered
from poslab.data.algorithmic.task import AlgorithmicTask, Example

SET, INCREMENT, PASS = 1, 7, 50
"""The odds of the three statements."""


class Counting(AlgorithmicTask):
    """The value of a variable after a program that sets variables to 0, increments them, and mostly does nothing.

        pass; b = 0 ; b ++; a = 0 ; pass; b ++; print b  ->  2
        a = 0 ; a ++; a = 0 ; pass; a ++; print a        ->  1

    `length` is the number of input symbols, at least 6; the output is one symbol. A statement is `pass;` 50 times in
    58, an increment of a variable that has a value 7 times, and `a = 0 ;` once. All variables are equally likely, in
    the question among those that have a value. A statement is drawn again where it cannot be (an increment without a
    variable, or beyond `largest`) or does not fit into the length, and the whole program where it sets no variable.

    The authors draw a number of statements, 3 to 512, where a length here is of symbols: there are 1.17 in a statement
    on average. They cut off the beginning of programs of more than 512 symbols, with which an assignment may be lost.

    Args:
        num_variables: variables, `a` and those after it (paper: 1, 3 and 5).
        largest: the largest value (the authors' code: 10).

    Source: Golovneva et al., "Contextual Position Encoding" (2024), the counting task; distributions from the authors'
    code.
    """

    num_variables: Annotated[int, Range(at_least=1, at_most=26)] = 3
    largest: Annotated[int, Range(at_least=1, at_most=1000)] = 10

    @property
    def variables(self) -> str:
        """The names of variables."""
        return ascii_lowercase[: self.num_variables]

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(self.largest + 1), *self.variables, "=", ";", "++;", "pass;", "print"

    def has_length(self, length: int) -> bool:
        return length >= 6

    def example(self, length: int, generator: np.random.Generator) -> Example:
        assert self.has_length(length), "a length below 6"
        chances = _chances(generator)
        values: dict[str, int] = {}
        while not values:
            program, values = self._program(length - 2, chances)
        asked = _one_of([*values], chances)
        return Example((*program, "print", asked), (str(values[asked]),))

    def _program(self, length: int, chances: Iterator[float]) -> tuple[list[str], dict[str, int]]:
        """Draw a program of so many symbols; return it with the values of its variables."""
        program: list[str] = []
        values: dict[str, int] = {}
        while (room := length - len(program)) > 0:
            chance = next(chances) * (SET + INCREMENT + PASS)
            if chance < PASS:
                program.append("pass;")
            elif chance < PASS + INCREMENT:
                variable = _one_of([*values], chances) if values else None
                if variable and values[variable] < self.largest and room >= 2:
                    values[variable] += 1
                    program += [variable, "++;"]
            elif room >= 4:
                variable = _one_of(self.variables, chances)
                values[variable] = 0
                program += [variable, "=", "0", ";"]
        return program, values


def _chances(generator: np.random.Generator) -> Iterator[float]:
    """Yield numbers of [0, 1) for ever; one at a time, they would cost a microsecond each."""
    while True:
        yield from generator.random(64).tolist()


def _one_of(names: str | list[str], chances: Iterator[float]) -> str:
    return names[int(next(chances) * len(names))]
