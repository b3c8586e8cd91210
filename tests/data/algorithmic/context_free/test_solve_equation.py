import pytest

from poslab.data.algorithmic.context_free.solve_equation import SolveEquation
from tests.data.algorithmic.solving import assert_as_often, assert_solved, drawn, many


def solver(modulus):
    def solve(equation):
        left, right = "".join(equation).split("=")
        assert int(right) in range(modulus)
        (solution,) = [x for x in range(modulus) if (eval(left, {"x": x}) - int(right)) % modulus == 0]
        return (str(solution),)

    return solve


@pytest.mark.parametrize("modulus", [5, 2, 11])
def test_solve_equation_has_one_solution_and_asks_for_it(modulus):
    assert_solved(SolveEquation(modulus), solver(modulus))


def test_solve_equation_has_one_unknown_and_one_sign_of_equality():
    assert all(example.input.count("x") == example.input.count("=") == 1 for _, example in drawn(SolveEquation()))


def test_every_solution_comes_as_often():
    assert_as_often((example.output[0] for example in many(SolveEquation(), 20, 2000)), "01234", 330, 470)
