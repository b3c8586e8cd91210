from functools import reduce
from operator import xor

from poslab.data.algorithmic.length_generalization.parity import Parity
from tests.data.algorithmic.solving import assert_solved, many


def test_parity_asks_whether_the_ones_are_even():
    assert_solved(Parity(), lambda string: [("Yes", "No")[reduce(xor, map(int, string))]])


def test_parity_is_even_half_of_the_time():
    assert 0.45 < sum(example.output == ("Yes",) for example in many(Parity(), 12, 2000)) / 2000 < 0.55
