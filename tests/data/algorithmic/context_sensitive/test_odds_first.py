from poslab.data.algorithmic.context_sensitive.odds_first import OddsFirst
from tests.data.algorithmic.solving import assert_solved


def solve(string):
    numbered_from_one = list(enumerate(string, start=1))
    odd = [symbol for number, symbol in numbered_from_one if number % 2]
    even = [symbol for number, symbol in numbered_from_one if not number % 2]
    return odd + even


def test_odds_first_counts_from_one():
    assert_solved(OddsFirst(), solve)
    assert_solved(OddsFirst(num_symbols=6), solve)
    assert "".join(solve("aaabaa")) == "aaaaba"  # table 1 of the paper
