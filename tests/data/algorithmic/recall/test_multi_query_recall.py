from collections import Counter

import pytest

from poslab.data.algorithmic.recall.multi_query_recall import MultiQueryRecall
from tests.data.algorithmic.solving import assert_as_often, assert_solved, drawn, many


def solve(string):
    values, answers = {}, []
    key = None
    for symbol in string:
        if symbol[0] == "k" and symbol in values:
            answers.append(values[symbol])
        elif symbol[0] == "k":
            key = symbol
        elif symbol[0] == "v":
            values[key] = symbol
    return answers


@pytest.mark.parametrize("task", [MultiQueryRecall(), MultiQueryRecall(2, 2, 2), MultiQueryRecall(4, 9, 30, power=1.0)])
def test_multi_query_recall_gives_the_values_of_the_keys_that_come_again(task):
    assert_solved(task, solve)


def test_multi_query_recall_has_its_pairs_first_and_queries_at_even_places():
    task = MultiQueryRecall(num_pairs=3)
    assert [length for length in range(15) if task.has_length(length)] == [12, 13, 14]
    for length, example in drawn(task):
        assert (len(example.input), len(example.output)) == (length, 3)
        keys = example.input[:6:2]
        assert len(set(keys)) == len(set(example.input[1:6:2])) == 3
        assert sorted(symbol for symbol in example.input[6::2] if symbol != ".") == sorted(keys)
        assert set(example.input[7::2]) <= {"."}


def test_the_vocabulary_of_the_paper_has_8192_symbols():
    assert len(MultiQueryRecall().symbols) == 8192


def test_queries_follow_a_power_law_in_their_distance_from_the_pairs():
    task = MultiQueryRecall(num_pairs=1, power=0.01)
    gaps = Counter((example.input.index(example.input[0], 2) - 2) // 2 for example in many(task, 18, 4000))
    weights = [place**-0.99 for place in range(1, 9)]
    for gap, weight in enumerate(weights):
        expected = 4000 * weight / sum(weights)
        assert abs(gaps[gap] - expected) < 5 * expected**0.5


def test_a_power_of_one_makes_every_distance_as_likely():
    task = MultiQueryRecall(num_pairs=1, power=1.0)
    gaps = ((example.input.index(example.input[0], 2) - 2) // 2 for example in many(task, 18, 4000))
    assert_as_often(gaps, range(8), 400, 600)
