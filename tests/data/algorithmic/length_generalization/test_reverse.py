from poslab.data.algorithmic.length_generalization.reverse import Reverse, ReverseThenCopy, ReverseTwice
from tests.data.algorithmic.solving import assert_solved


def backwards(string):
    return [string[-place] for place in range(1, len(string) + 1)]


def test_reverse_reverses():
    assert_solved(Reverse(), backwards)


def test_reverse_twice_has_a_mark_between():
    assert_solved(ReverseTwice(), lambda string: [*backwards(string), "[NEXT]", *backwards(string)])


def test_reverse_then_copy_ends_in_the_string_itself():
    assert_solved(ReverseThenCopy(), lambda string: [*backwards(string), "[NEXT]", *string])
