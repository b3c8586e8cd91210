from collections import deque

from poslab.data.algorithmic.context_free.reverse_string import ReverseString
from tests.data.algorithmic.solving import assert_solved


def solve(string):
    stack = deque()
    stack.extendleft(string)
    return stack


def test_reverse_string_reverses():
    assert_solved(ReverseString(), solve)
    assert_solved(ReverseString(num_symbols=7), solve)
