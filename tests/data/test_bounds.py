"""Ranges of arguments are checked and told in one way."""

import pytest

from poslab.data.bounds import require_integer


@pytest.mark.parametrize(
    ("value", "least", "most", "bounds"),
    [
        (0, 1, None, "a positive integer"),
        (1, 2, None, "an integer of at least 2"),
        (True, 1, None, "a positive integer"),
        (2.0, 1, None, "a positive integer"),
        (5, 1, 4, "an integer from 1 to 4"),
        (0, 1, 4, "an integer from 1 to 4"),
    ],
)
def test_what_is_no_integer_of_a_range_is_told_with_the_range(value, least, most, bounds):
    with pytest.raises(ValueError) as raised:
        require_integer("count", value, least, most)
    assert str(raised.value) == f"count must be {bounds}, got {value!r}"


def test_both_ends_of_a_range_belong_to_it():
    for value in (1, 4):
        require_integer("count", value, 1, 4)
