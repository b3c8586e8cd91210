from poslab.data.algorithmic.context_sensitive.binary_addition import BinaryAddition
from tests.data.algorithmic.solving import assert_as_often, assert_solved, many


def add(first, second):
    """Bit by bit, from the lowest."""
    total, carry = "", 0
    for place in range(max(len(first), len(second))):
        ones = carry + (first[place : place + 1] == "1") + (second[place : place + 1] == "1")
        total, carry = total + str(ones % 2), ones // 2
    return (total + "1" * carry).rstrip("0")


def solve(string):
    total = add(*"".join(string).split("+"))
    return (total + ".").ljust(len(string) + 1, "0")


def test_binary_addition_adds():
    assert_solved(BinaryAddition(), solve, [*range(1, 61), 499, 500, 1000])


def test_binary_addition_without_padding_ends_at_the_stop():
    assert_solved(BinaryAddition(padded=False), lambda string: solve(string).rstrip("0"))


def test_the_first_number_has_any_length_as_often_and_a_number_is_any_but_zero():
    texts = ["".join(example.input) for example in many(BinaryAddition(), 6, 4000)]
    assert_as_often((text.index("+") for text in texts), range(1, 5), 880, 1120)
    assert_as_often((text[:2] for text in texts if text.index("+") == 2), ["01", "10", "11"], 260, 410)
