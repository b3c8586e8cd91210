from decimal import Decimal, localcontext

import pytest

from poslab.data.algorithmic.length_generalization.addition import Addition
from tests.data.algorithmic.solving import assert_as_often, assert_solved, drawn, many


def solve(string):
    first, second = "".join(string).split("+")
    return str(int(first) + int(second))


def test_addition_adds():
    assert_solved(Addition(), solve, [*range(1, 61), 500, 1000])


def solve_reversed(string):
    """By hand, digit by digit as they come."""
    first, second = "".join(string).split("+")
    carry = 0
    for place in range(max(len(first), len(second))):
        carry += sum(int(number[place]) for number in (first, second) if place < len(number))
        yield str(carry % 10)
        carry //= 10
    if carry:
        yield str(carry)


def test_reversed_numbers_begin_with_their_lowest_digit():
    task = Addition(reversed=True)
    for length, example in drawn(task, [*range(1, 61), 500]):
        assert tuple(solve_reversed(example.input)) == example.output
        numbers = "".join(example.input).split("+")
        assert max(map(len, numbers)) == length
        assert all(len(number) == 1 or number[-1] != "0" for number in numbers)
    assert "".join(solve_reversed("62735+7191")) == "34655"  # 53726 + 1917 = 55643


def test_reversed_examples_are_the_others_from_right_to_left():
    for plain, example in zip(many(Addition(), 7, 50), many(Addition(reversed=True), 7, 50), strict=True):
        assert example.output == plain.output[::-1]
        first, second = "".join(plain.input).split("+")
        assert "".join(example.input) == f"{first[::-1]}+{second[::-1]}"


def test_addition_has_as_many_digits_as_the_length_in_one_number_and_none_has_more():
    for length, example in drawn(Addition()):
        numbers = "".join(example.input).split("+")
        assert max(map(len, numbers)) == length
        assert all(len(number) == 1 or number[0] != "0" for number in numbers)


def test_addition_goes_on_where_python_takes_no_longer_numbers():
    for example in many(Addition(), 6000, 3):
        first, second = "".join(example.input).split("+")
        with localcontext(prec=7000):
            assert str(Decimal(first) + Decimal(second)) == "".join(example.output)


@pytest.mark.parametrize("least_digits", [1, 4, 5])
def test_every_pair_of_digit_counts_with_the_length_as_maximum_comes_as_often(least_digits):
    numbers = ("".join(example.input).split("+") for example in many(Addition(least_digits), 5, 2700))
    counts = range(least_digits, 6)
    among = {(a, b) for a in counts for b in counts if max(a, b) == 5}
    mean = 2700 / len(among)
    assert_as_often((tuple(map(len, pair)) for pair in numbers), among, 0.8 * mean, 1.2 * mean)


def test_addition_has_no_length_below_the_least_digits():
    assert [length for length in range(8) if Addition(least_digits=4).has_length(length)] == [4, 5, 6, 7]


def test_a_number_of_one_digit_can_be_zero():
    assert {example.input[0] for example in many(Addition(), 1, 300)} == set("0123456789")
