"""Turns of a conversation become contexts and replies."""

import pytest

from poslab.data.examples.pairs import replies


@pytest.mark.parametrize(
    "context_turns, pairs",
    [
        (1, [("a", "b"), ("b", "c"), ("c", "d")]),
        (2, [("a", "b"), ("a\nb", "c"), ("b\nc", "d")]),
        (None, [("a", "b"), ("a\nb", "c"), ("a\nb\nc", "d")]),
    ],
)
def test_every_turn_but_the_first_replies_to_those_before_it(
    context_turns: int | None, pairs: list[tuple[str, str]]
) -> None:
    assert replies(["a", "b", "c", "d"], context_turns) == pairs


def test_a_turn_is_a_line_and_an_empty_one_is_none() -> None:
    assert replies(["two\nlines ", " ", "reply"], None) == [("two lines", "reply")]
    assert replies(["alone"], None) == replies([], 1) == []
