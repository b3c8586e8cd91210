"""Modular arithmetic without brackets."""

from collections.abc import Iterable, Sequence

import numpy as np

from poslab.data.algorithmic.strings import draw, numbered
from poslab.data.algorithmic.task import AlgorithmicTask, AtLeastTwo, Example

OPERATORS = ("+", "-", "*")


class ModularArithmetic(AlgorithmicTask):
    """The remainder of an expression without brackets; products come first.

        1 + 2 * 3          ->  2    7 modulo 5
        1 - 1 - 1          ->  4
        0 * 1 + 4 * 3 - 2  ->  0

    `length` is the number of input symbols. It is odd, with one number more than operators. The authors replace an even
    length by the odd one below; drawn from 1 to an even number, odd lengths are as likely here as there. All numbers
    are equally likely, as are all operators. The output is one symbol, a number.

    Args:
        modulus: numbers are below it; at least 2 (paper: 5).
        operators: some of `+`, `-` and `*`, at least one (paper: all three).

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1, "Modular Arithmetic
    (Simple)".
    """

    modulus: AtLeastTwo = 5
    operators: Sequence[str] = OPERATORS

    def __post_init__(self) -> None:
        require_operators(self.operators)

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(self.modulus), *self.operators

    def has_length(self, length: int) -> bool:
        return length >= 1 and length % 2 == 1

    def example(self, length: int, generator: np.random.Generator) -> Example:
        assert self.has_length(length), "an even length"
        numbers = generator.integers(self.modulus, size=length // 2 + 1).tolist()
        operators = draw(self.operators, length // 2, generator)
        expression = [""] * length
        expression[::2] = map(str, numbers)
        expression[1::2] = operators
        return Example(tuple(expression), (str(self._value(numbers, operators)),))

    def _value(self, numbers: Sequence[int], operators: Iterable[str]) -> int:
        terms, product = 0, numbers[0]
        for operator, number in zip(operators, numbers[1:], strict=True):
            if operator == "*":
                product = product * number % self.modulus
            else:
                terms += product
                product = number if operator == "+" else -number
        return (terms + product) % self.modulus


def require_operators(operators: Sequence[str]) -> None:
    """Raise ValueError for anything but some of `+`, `-` and `*`, each once."""
    if not operators or len(set(operators)) < len(operators) or not set(operators) <= set(OPERATORS):
        raise ValueError(f"operators must be one or more of + - *, each once, got {operators!r}")
