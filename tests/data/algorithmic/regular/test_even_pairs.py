from itertools import pairwise

from poslab.data.algorithmic.regular.even_pairs import EvenPairs
from tests.data.algorithmic.solving import assert_solved, many


def solve(string):
    return str(sum({"0", "1"} == set(pair) for pair in pairwise(string)) % 2)


def test_even_pairs_counts_changes():
    assert_solved(EvenPairs(), solve)


def test_even_pairs_are_even_half_of_the_time():
    assert 0.45 < sum(example.output == ("0",) for example in many(EvenPairs(), 12, 2000)) / 2000 < 0.55
