"""Modular arithmetic with brackets."""

import operator
from collections.abc import Callable, Sequence

import numpy as np

from poslab.data.algorithmic.regular.modular_arithmetic import OPERATORS, require_operators
from poslab.data.algorithmic.strings import draw, numbered
from poslab.data.algorithmic.task import AlgorithmicTask, AtLeastTwo, Example

OPERATIONS: dict[str, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}


class ModularArithmeticBrackets(AlgorithmicTask):
    """The remainder of an arithmetic expression in which every operation stands in brackets.

        ( ( 1 - 3 ) * ( - 4 ) )  ->  3    8 modulo 5

    `length` is the number of input symbols, at least 1. One symbol is a number d, two are - d, three ( d ), four
    ( - d ); more are a pair of brackets around two such expressions with an operator between, the first of which has
    any share of the symbols, equally likely. The output is one symbol, a number.

    Args:
        modulus: numbers are below it; at least 2 (paper: 5).
        operators: some of `+`, `-` and `*`, at least one (paper: all three), equally likely. The sign of a number is
            there in any case.

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1, "Modular Arithmetic"; the
    grammar is that of the authors' code.
    """

    modulus: AtLeastTwo = 5
    operators: Sequence[str] = OPERATORS

    def __post_init__(self) -> None:
        require_operators(self.operators)

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(self.modulus), *dict.fromkeys([*self.operators, "-"]), "(", ")"

    def example(self, length: int, generator: np.random.Generator) -> Example:
        expression, value = draw_expression(length, self.modulus, self.operators, generator)
        return Example(tuple(expression), (str(value),))


def draw_expression(
    length: int, modulus: int, operators: Sequence[str], generator: np.random.Generator
) -> tuple[list[str], int]:
    """Draw an expression in brackets; return it and its value, 0 to `modulus` - 1; arguments as of the task."""
    # More than there can be of each: drawn at once, they cost less than one by one.
    digits = generator.integers(modulus, size=length).tolist()
    signs = list(draw(operators, length, generator))
    shares = generator.random(length).tolist()
    # No recursion, which may be as deep as a quarter of the length. The stack holds the rest of the expression, the
    # next part on top: a length, a symbol, or an operation whose bracket closes.
    to_write: list[int | str | Callable[[int, int], int]] = [length]
    expression: list[str] = []
    values: list[int] = []
    while to_write:
        part = to_write.pop()
        if isinstance(part, str):
            expression.append(part)
        elif not isinstance(part, int):
            expression.append(")")
            right = values.pop()
            values[-1] = part(values[-1], right) % modulus
        elif part >= 5:
            left = 1 + int(shares.pop() * (part - 4))
            sign = signs.pop()
            to_write += [OPERATIONS[sign], part - 3 - left, sign, left, "("]
        else:
            digit = digits.pop()
            number = [str(digit)] if part % 2 else ["-", str(digit)]
            expression += ["(", *number, ")"] if part > 2 else number
            values.append(digit if part % 2 else -digit)
    return expression, values[0] % modulus
