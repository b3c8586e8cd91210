import pytest

from poslab.data.algorithmic.regular.modular_arithmetic import ModularArithmetic
from tests.data.algorithmic.solving import assert_as_often, assert_solved, drawn, many


def solver(modulus):
    return lambda expression: (str(eval("".join(expression)) % modulus),)


@pytest.mark.parametrize(
    ("modulus", "operators"), [(5, ["+", "-", "*"]), (2, ["*"]), (7, ["-", "+"]), (13, ("*", "-"))]
)
def test_modular_arithmetic_is_what_python_makes_of_it(modulus, operators):
    task = ModularArithmetic(modulus, operators)
    assert_solved(task, solver(modulus))
    assert all(set(example.input[1::2]) <= set(operators) for _, example in drawn(task))


def test_modular_arithmetic_has_odd_lengths_and_one_symbol_of_output():
    task = ModularArithmetic()
    assert [length for length in range(10) if task.has_length(length)] == [1, 3, 5, 7, 9]
    assert all((len(example.input), len(example.output)) == (length, 1) for length, example in drawn(task))


def test_numbers_and_operators_come_as_often():
    examples = many(ModularArithmetic(), 41, 300)
    assert_as_often((number for example in examples for number in example.input[::2]), "01234", 1150, 1370)
    assert_as_often((operator for example in examples for operator in example.input[1::2]), "+-*", 1870, 2130)
