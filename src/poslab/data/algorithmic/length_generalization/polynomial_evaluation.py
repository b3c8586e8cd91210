"""Values of polynomials modulo a number."""

import numpy as np

from poslab.data.algorithmic.strings import numbered
from poslab.data.algorithmic.task import AlgorithmicTask, AtLeastTwo, Example


class PolynomialEvaluation(AlgorithmicTask):
    """The value of a polynomial modulo a number.

        x = - 2 in 3 * x ** 2 + - 1 * x ** 0  ->  1    12 - 1 = 11

    `length` is the number of terms, at least 1. Coefficients are integers from -3 to 3, exponents from 0 to 3, and x
    from -2 to 2, equally likely; exponents are in no order and may repeat. The output is one symbol. The paper's text
    is "Evaluate at x = - 2 in 3 * x ** 2 + - 1 * x ** 0 ?" and "The answer is 1."

    Args:
        modulus: at least 2 (paper: 10).

    Source: Kazemnejad et al. (NeurIPS 2023), table 1; form and distributions from the authors' code.
    """

    modulus: AtLeastTwo = 10

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(max(4, self.modulus)), "x", "=", "in", "*", "**", "+", "-"

    def example(self, length: int, generator: np.random.Generator) -> Example:
        coefficients = generator.integers(-3, 4, size=length).tolist()
        exponents = generator.integers(4, size=length).tolist()
        x = int(generator.integers(-2, 3))
        question, value = ["x", "=", *_signed(x), "in"], 0
        for coefficient, exponent in zip(coefficients, exponents, strict=True):
            question += [*_signed(coefficient), "*", "x", "**", str(exponent), "+"]
            value += coefficient * x**exponent
        return Example(tuple(question[:-1]), (str(value % self.modulus),))

    def most_tokens(self, length: int) -> int:
        return 7 * length + 6  # where x and all coefficients are negative


def _signed(number: int) -> list[str]:
    return ["-", str(-number)] if number < 0 else [str(number)]
