"""Equations modulo a number."""

import numpy as np

from poslab.data.algorithmic.context_free.modular_arithmetic_brackets import draw_expression
from poslab.data.algorithmic.strings import numbered
from poslab.data.algorithmic.task import AlgorithmicTask, AtLeastTwo, Example


class SolveEquation(AlgorithmicTask):
    """The one number for which an equation holds, up to multiples of the modulus.

        ( ( x - 3 ) + ( - 4 ) ) = 0  ->  2    2 - 3 - 4 is -5

    The left side is an expression of `ModularArithmeticBrackets` with x in place of a number: the first one from a
    random symbol on, wrapping around at the end. Without products, x has exactly one solution.

    `length` is the number of input symbols, at least 3: x = d. The authors' code gives an input of zeros with the
    answer 0 for lengths of 1 and 2, which are left out here. The output is one symbol, a number.

    Args:
        modulus: numbers are below it; at least 2 (paper: 5).

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1; the place of x as in the
    authors' code, whose operators are + and -.
    """

    shortest = 3

    modulus: AtLeastTwo = 5

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(self.modulus), "+", "-", "(", ")", "x", "="

    def example(self, length: int, generator: np.random.Generator) -> Example:
        assert self.has_length(length), "a length below 3"
        equation, value = draw_expression(length - 2, self.modulus, ("+", "-"), generator)
        place = int(generator.integers(len(equation)))
        while not equation[place].isdigit():
            place = (place + 1) % len(equation)
        solution, equation[place] = equation[place], "x"
        return Example((*equation, "=", str(value)), (solution,))
