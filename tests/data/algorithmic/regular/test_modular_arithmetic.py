from collections import Counter

import pytest

from poslab.data.algorithmic.regular.modular_arithmetic import ModularArithmetic
from tests.data.algorithmic.solving import assert_solved, drawn, many


def solver(modulus):
    return lambda expression: (str(eval("".join(expression)) % modulus),)


def test_modular_arithmetic_is_what_python_makes_of_it():
    assert_solved(ModularArithmetic(), solver(5))


@pytest.mark.parametrize(("modulus", "operators"), [(2, "*"), (7, ["-", "+"]), (13, ("*", "-"))])
def test_modular_arithmetic_with_other_numbers_and_operators(modulus, operators):
    task, solve = ModularArithmetic(modulus, operators), solver(modulus)
    for _, example in drawn(task):
        assert solve(example.input) == example.output
        assert set(example.input[1::2]) <= set(operators)


def test_modular_arithmetic_has_odd_lengths_and_one_symbol_of_output():
    task = ModularArithmetic()
    assert [length for length in range(10) if task.has_length(length)] == [1, 3, 5, 7, 9]
    assert all((len(example.input), len(example.output)) == (length, 1) for length, example in drawn(task))


def test_numbers_and_operators_come_as_often():
    symbols = Counter(symbol for example in many(ModularArithmetic(), 41, 300) for symbol in example.input)
    assert all(1150 < symbols[str(number)] < 1370 for number in range(5))
    assert all(1870 < symbols[operator] < 2130 for operator in "+-*")
