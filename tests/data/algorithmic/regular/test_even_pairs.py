from itertools import pairwise

from poslab.data.algorithmic.regular.even_pairs import EvenPairs
from tests.data.algorithmic.solving import assert_solved


def solve(string):
    return str(sum({"0", "1"} == set(pair) for pair in pairwise(string)) % 2)


def test_even_pairs_counts_changes():
    assert_solved(EvenPairs(), solve)
