from itertools import pairwise, permutations

import pytest

from poslab.data.algorithmic.recall.multi_key_retrieval import MultiKeyRetrieval
from tests.data.algorithmic.solving import assert_as_often, assert_solved, drawn, many


def pairs(string):
    return [pair for pair in pairwise(string[:-1]) if pair[0][0] == "k"]


def solve(string):
    return (dict(pairs(string))[string[-1]],)


@pytest.mark.parametrize(
    "task", [MultiKeyRetrieval(), MultiKeyRetrieval(1, 1, 2, 1), MultiKeyRetrieval(num_pairs=10, num_keys=10)]
)
def test_multi_key_retrieval_is_the_value_behind_the_key(task):
    assert_solved(task, solve)


def test_multi_key_retrieval_has_its_pairs_among_fillers():
    for length, example in drawn(MultiKeyRetrieval()):
        found = pairs(example.input)
        assert len(found) == len({key for key, _ in found}) == 4
        assert all(value[0] == "v" for _, value in found)
        assert sum(symbol[0] == "f" for symbol in example.input) == length - 9


def test_pairs_stand_anywhere_as_often_and_any_of_them_is_asked_for():
    examples = many(MultiKeyRetrieval(num_pairs=2), 8, 3000)
    forms = ("".join(symbol[0] for symbol in example.input) for example in examples)
    among = {"".join(parts) + "k" for parts in permutations(["kv", "kv", "f", "f", "f"])}
    assert_as_often(forms, among, 220, 380)
    asked = ([key for key, _ in pairs(example.input)].index(example.input[-1]) for example in examples)
    assert_as_often(asked, (0, 1), 1350, 1650)
