"""Settings of an evaluation are checked before anything is read."""

from __future__ import annotations

import re

import pytest

from poslab.evaluation.settings import Request


def test_lengths_are_tokens_or_multiples_of_the_training_length_in_any_order():
    request = Request(lengths=["0.5x", 100, "2x"], stride=16)
    assert request.with_tokens(64).lengths == [32, 100, 128]
    assert Request().with_tokens(64).lengths is None


@pytest.mark.parametrize("lengths", [64, "2x", [0], ["2x", -5], [16, 1.5], ["half"], [True], {"a": 1}, [[16]]])
def test_other_lengths_are_refused_with_an_example(lengths):
    with pytest.raises(ValueError, match=rf"^lengths must .*512.*4x, got {re.escape(repr(lengths))}$"):
        Request(lengths=lengths)


@pytest.mark.parametrize("lengths", [[100, 8, "4x"], ["0.125x", 100]])
def test_a_stride_beyond_the_shortest_length_is_refused(lengths):
    with pytest.raises(ValueError, match=r"^stride must.*of lengths, 8, got 9$"):
        Request(lengths=lengths, stride=9).with_tokens(64)
