"""Lengths are tokens, or multiples of the training length."""

import re

import pytest

from poslab.configuration.command_line import LENGTH, whole_tokens


@pytest.mark.parametrize(
    ("typed", "found"), [("512", 512), (512, 512), ("4x", 256), ("0.5x", 32), ("1.0x", 64), ("0.015625x", 1)]
)
def test_a_length_is_tokens_or_a_multiple_of_the_training_length(typed, found):
    assert re.fullmatch(LENGTH, str(typed))
    assert whole_tokens(typed, 64) == found


@pytest.mark.parametrize(("typed", "value"), [("0.3x", "19.2"), ("0.001x", "0.064")])
def test_a_multiple_that_is_no_whole_number_is_refused(typed, value):
    with pytest.raises(ValueError, match=f"^lengths must .* {typed} of .* 64, "):
        whole_tokens(typed, 64)


@pytest.mark.parametrize("typed", ["x", "-1x", ".5x", "1e2x", "0.5", "0", "0x", "0.0x", "1.x", "abc", "1" * 10])
def test_other_words_are_no_length(typed):
    assert not re.fullmatch(LENGTH, typed)
