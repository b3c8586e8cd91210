"""Numbers and words as text."""

import pytest

from poslab.report.text import amount, listed, readable


@pytest.mark.parametrize(("names", "words"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")])
def test_names_are_listed_with_a_word_before_the_last(names, words):
    assert listed(names) == words


def test_nouns_follow_the_number():
    assert [amount(1, "seed"), amount(1_000, "seed")] == ["1 seed", "1,000 seeds"]


@pytest.mark.parametrize(
    ("numbers", "texts"),
    [
        ([256, 4096, 1234567], ["256", "4,096", "1,234,567"]),
        ([3.0, -2.0, 0.0], ["3", "−2", "0"]),
        ([0.5, 0.03125, 0.0], ["0.5000", "0.0312", "0.0000"]),
        ([3.41234, 1523.7], ["3.412", "1,523.700"]),
        ([12.3456, float("inf"), float("-inf")], ["12.35", "∞", "−∞"]),
        ([1e-5, 0.5, 1234.5, 0.0], ["1.000e−5", "0.5000", "1,234", "0"]),
        ([2.5e9, 0.25], ["2.500e9", "0.2500"]),
        ([], []),
    ],
)
def test_numbers_of_a_column_have_the_digits_that_tell_them_apart(numbers, texts):
    assert readable(numbers) == texts
