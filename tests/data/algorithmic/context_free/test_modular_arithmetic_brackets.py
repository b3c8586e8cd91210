import re
from collections import Counter
from itertools import accumulate

import pytest

from poslab.data.algorithmic.context_free.modular_arithmetic_brackets import ModularArithmeticBrackets
from tests.data.algorithmic.solving import assert_solved, drawn, many


def solver(modulus):
    return lambda expression: (str(eval("".join(expression)) % modulus),)


def left_length(expression):
    """Symbols of the first of the two expressions in the outermost brackets."""
    inside = expression[1:-1]
    if inside[0] != "(":
        return 2 if inside[0] == "-" else 1
    depths = accumulate((symbol == "(") - (symbol == ")") for symbol in inside)
    return [*depths].index(0) + 1


def test_modular_arithmetic_brackets_is_what_python_makes_of_it():
    assert_solved(ModularArithmeticBrackets(), solver(5))


@pytest.mark.parametrize(("modulus", "operators"), [(2, "*"), (9, ["+", "-"]), (13, ("*", "-", "+"))])
def test_modular_arithmetic_brackets_with_other_numbers_and_operators(modulus, operators):
    task, solve = ModularArithmeticBrackets(modulus, operators), solver(modulus)
    for _, example in drawn(task):
        assert {*example.input, *example.output} <= set(task.symbols)
        assert solve(example.input) == example.output


@pytest.mark.parametrize(("length", "form"), [(1, r"\d"), (2, r"-\d"), (3, r"\(\d\)"), (4, r"\(-\d\)")])
def test_short_expressions_are_a_number_with_a_sign_or_brackets_or_both(length, form):
    texts = {"".join(example.input) for example in many(ModularArithmeticBrackets(), length, 60)}
    assert len(texts) == 5
    assert all(re.fullmatch(form, text) for text in texts)


def test_every_operation_stands_in_brackets():
    for _, example in drawn(ModularArithmeticBrackets()):
        text = "".join(example.input)
        while len(text) > 1:
            # A sign stands at the beginning of an expression, an operator behind one.
            shorter = re.sub(r"\((?:-?\d|-?[\dE][+*-]-?[\dE]|E[+*-]-?[\dE])\)", "E", text)
            if shorter == text:
                break
            text = shorter
        assert re.fullmatch(r"E|-?\d", text), text


def test_the_first_part_takes_any_share_as_often_and_so_does_any_operator():
    lengths = Counter(left_length(example.input) for example in many(ModularArithmeticBrackets(), 12, 3200))
    assert sorted(lengths) == list(range(1, 9))
    assert all(330 < count < 470 for count in lengths.values())
    operators = Counter(example.input[2] for example in many(ModularArithmeticBrackets(), 5, 1500))
    assert all(430 < operators[operator] < 570 for operator in "+-*")


def test_a_deep_expression_needs_no_recursion():
    example = many(ModularArithmeticBrackets(), 20_000, 1)[0]
    assert len(example.input) == 20_000
