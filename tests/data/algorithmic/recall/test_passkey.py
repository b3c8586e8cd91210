from poslab.data.algorithmic.recall.passkey import Passkey
from tests.data.algorithmic.solving import assert_as_often, assert_solved, drawn, many


def solve(string):
    return [symbol for symbol in string if symbol.isdigit()]


def test_passkey_is_the_only_number_of_the_text():
    assert_solved(Passkey(), solve)
    assert_solved(Passkey(digits=1), solve)


def test_passkey_stands_behind_the_mark_that_asks_for_it():
    for length, example in drawn(Passkey(digits=3)):
        assert len(example.input) == length
        assert len(example.output) == 3
        assert example.input[-1] == "passkey"
        behind = example.input.index("passkey") + 1
        assert example.input[behind : behind + 3] == example.output


def test_passkey_stands_anywhere_as_often():
    places = (example.input.index("passkey") for example in many(Passkey(), 12, 1800))
    assert_as_often(places, range(6), 230, 370)


def test_what_is_around_the_passkey_is_always_the_same():
    for example in many(Passkey(), 40, 20):
        first = example.input.index("passkey")
        behind = example.input[first + 6 : -1]
        longer, shorter = sorted([example.input[:first], behind], key=len, reverse=True)
        assert longer[: len(shorter)] == shorter
