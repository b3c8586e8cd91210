import re
from collections import Counter

from poslab.data.algorithmic.length_generalization.polynomial_evaluation import PolynomialEvaluation
from tests.data.algorithmic.solving import assert_solved, drawn, many


def solver(modulus):
    def solve(string):
        x, polynomial = re.fullmatch(r"x = (.+) in (.+)", " ".join(string)).groups()
        return (str(eval(polynomial, {"x": eval(x)}) % modulus),)

    return solve


def test_polynomial_evaluation_is_what_python_makes_of_it():
    assert_solved(PolynomialEvaluation(), solver(10))


def test_polynomial_evaluation_can_have_other_remainders():
    for modulus in (2, 17):
        task, solve = PolynomialEvaluation(modulus), solver(modulus)
        for _, example in drawn(task):
            assert solve(example.input) == example.output
            assert {*example.input, *example.output} <= set(task.symbols)


def test_polynomial_evaluation_has_as_many_terms_as_the_length():
    for length, example in drawn(PolynomialEvaluation()):
        terms = " ".join(example.input).split(" in ")[1].split(" + ")
        assert len(terms) == length
        assert all(re.fullmatch(r"(- [123]|[0123]) \* x \*\* [0123]", term) for term in terms)


def test_every_number_of_the_paper_comes_as_often():
    text = [" ".join(example.input) for example in many(PolynomialEvaluation(), 20, 400)]
    terms = [term.split(" * x ** ") for line in text for term in line.split(" in ")[1].split(" + ")]
    coefficients, exponents = (Counter(column) for column in zip(*terms, strict=True))
    assert set(coefficients) == {"- 3", "- 2", "- 1", "0", "1", "2", "3"}
    assert all(1000 < count < 1290 for count in coefficients.values())
    assert set(exponents) == set("0123")
    assert all(1850 < count < 2150 for count in exponents.values())
    x = Counter(line.split(" in ")[0] for line in text)
    assert set(x) == {"x = - 2", "x = - 1", "x = 0", "x = 1", "x = 2"}
    assert all(50 < count < 115 for count in x.values())
