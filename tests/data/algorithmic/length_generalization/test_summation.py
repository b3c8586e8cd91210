import pytest

from poslab.data.algorithmic.length_generalization.summation import Summation
from tests.data.algorithmic.solving import assert_as_often, assert_solved, drawn, many


@pytest.mark.parametrize("modulus", [10, 2, 23])
def test_summation_is_what_python_makes_of_it(modulus):
    assert_solved(Summation(modulus), lambda string: (str(eval("".join(string)) % modulus),))


def test_summation_has_as_many_digits_as_the_length_and_no_zero():
    for length, example in drawn(Summation()):
        assert len(example.input[::2]) == length
        assert set(example.input[1::2]) <= {"+"}
        assert set(example.input[::2]) <= set("123456789")


def test_every_answer_comes_as_often():
    assert_as_often((example.output[0] for example in many(Summation(), 30, 3000)), "0123456789", 240, 360)
