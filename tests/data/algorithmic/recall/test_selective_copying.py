from itertools import permutations

from poslab.data.algorithmic.recall.selective_copying import SelectiveCopying
from tests.data.algorithmic.solving import assert_as_often, assert_solved, many


def solve(string):
    return " ".join(string).replace(".", "").split()


def test_selective_copying_leaves_out_the_noise():
    assert_solved(SelectiveCopying(), solve)
    assert_solved(SelectiveCopying(num_data=1, num_symbols=2), solve)


def test_data_stand_anywhere_as_often():
    examples = many(SelectiveCopying(num_data=2), 5, 2000)
    forms = (tuple(symbol == "." for symbol in example.input) for example in examples)
    assert_as_often(forms, set(permutations([False] * 2 + [True] * 3)), 140, 260)
