import re

import pytest

from poslab.data.algorithmic.length_generalization.polynomial_evaluation import PolynomialEvaluation
from tests.data.algorithmic.solving import assert_as_often, assert_solved, drawn, many


def solver(modulus):
    def solve(string):
        x, polynomial = re.fullmatch(r"x = (.+) in (.+)", " ".join(string)).groups()
        return (str(eval(polynomial, {"x": eval(x)}) % modulus),)

    return solve


@pytest.mark.parametrize("modulus", [10, 2, 17])
def test_polynomial_evaluation_is_what_python_makes_of_it(modulus):
    assert_solved(PolynomialEvaluation(modulus), solver(modulus))


def test_polynomial_evaluation_has_as_many_terms_as_the_length():
    for length, example in drawn(PolynomialEvaluation()):
        terms = " ".join(example.input).split(" in ")[1].split(" + ")
        assert len(terms) == length
        assert all(re.fullmatch(r"(- [123]|[0123]) \* x \*\* [0123]", term) for term in terms)


def test_every_number_of_the_paper_comes_as_often():
    text = [" ".join(example.input) for example in many(PolynomialEvaluation(), 20, 400)]
    terms = [term.split(" * x ** ") for line in text for term in line.split(" in ")[1].split(" + ")]
    coefficients, exponents = zip(*terms, strict=True)
    assert_as_often(coefficients, {"- 3", "- 2", "- 1", "0", "1", "2", "3"}, 1000, 1290)
    assert_as_often(exponents, "0123", 1850, 2150)
    x = (line.split(" in ")[0] for line in text)
    assert_as_often(x, {"x = - 2", "x = - 1", "x = 0", "x = 1", "x = 2"}, 50, 115)
