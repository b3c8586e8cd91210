from functools import reduce
from operator import xor

from poslab.data.algorithmic.length_generalization.parity import Parity
from tests.data.algorithmic.solving import assert_solved


def test_parity_asks_whether_the_ones_are_even():
    assert_solved(Parity(), lambda string: [("Yes", "No")[reduce(xor, map(int, string))]])
