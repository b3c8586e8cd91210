import re
from itertools import accumulate

import pytest

from poslab.data.algorithmic.context_free.modular_arithmetic_brackets import ModularArithmeticBrackets
from tests.data.algorithmic.solving import assert_as_often, assert_solved, drawn, many


def solver(modulus):
    return lambda expression: (str(eval("".join(expression)) % modulus),)


def left_length(expression):
    """Symbols of the first of the two expressions in the outermost brackets."""
    inside = expression[1:-1]
    if inside[0] != "(":
        return 2 if inside[0] == "-" else 1
    depths = accumulate((symbol == "(") - (symbol == ")") for symbol in inside)
    return [*depths].index(0) + 1


@pytest.mark.parametrize(
    ("modulus", "operators"), [(5, ["+", "-", "*"]), (2, ["*"]), (9, ["+", "-"]), (13, ("*", "-", "+"))]
)
def test_modular_arithmetic_brackets_is_what_python_makes_of_it(modulus, operators):
    assert_solved(ModularArithmeticBrackets(modulus, operators), solver(modulus))


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
    lengths = (left_length(example.input) for example in many(ModularArithmeticBrackets(), 12, 3200))
    assert_as_often(lengths, range(1, 9), 330, 470)
    operators = (example.input[2] for example in many(ModularArithmeticBrackets(), 5, 1500))
    assert_as_often(operators, "+-*", 430, 570)


def test_a_deep_expression_needs_no_recursion():
    example = many(ModularArithmeticBrackets(), 20_000, 1)[0]
    assert len(example.input) == 20_000
