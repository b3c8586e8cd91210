import re

from poslab.data.algorithmic.recall.induction import Induction
from tests.data.algorithmic.solving import assert_as_often, assert_solved, many


def solver(answer_length):
    def solve(string):
        found = re.fullmatch(rf"(?:\d+ )*=> ((?:\d+ ){{{answer_length}}})(?:\d+ )*=>", " ".join(string))
        return found[1].split()

    return solve


def test_induction_repeats_what_followed_the_special_symbol():
    assert_solved(Induction(), solver(1))


def test_induction_can_ask_for_more_symbols():
    task = Induction(num_symbols=2, answer_length=4)
    assert [length for length in range(9) if task.has_length(length)] == [6, 7, 8]
    assert_solved(task, solver(4))


def test_induction_has_16_symbols_as_in_the_paper():
    assert len(Induction().symbols) == 16


def test_the_special_symbol_comes_first_anywhere_as_often():
    places = (example.input.index("=>") for example in many(Induction(), 10, 1800))
    assert_as_often(places, range(8), 165, 285)
