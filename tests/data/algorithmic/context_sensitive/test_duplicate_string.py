from itertools import cycle, islice

import pytest

from poslab.data.algorithmic.context_sensitive.duplicate_string import DuplicateString
from tests.data.algorithmic.solving import assert_solved, drawn


def test_duplicate_string_goes_around_twice():
    assert_solved(DuplicateString(), lambda string: islice(cycle(string), 2 * len(string)))


@pytest.mark.parametrize("num_copies", [1, 3])
def test_duplicate_string_has_as_many_copies_as_asked_for(num_copies):
    for length, example in drawn(DuplicateString(num_symbols=9, num_copies=num_copies)):
        assert len(example.input) == length
        assert example.output == tuple(islice(cycle(example.input), num_copies * length))
