"""Overlap against sets of strings, and what dropping repeated text leaves."""

import numpy as np
import pytest

from poslab.data.overlap import SEPARATOR, near_copies, shared_bytes, shared_fraction
from poslab.data.preparation import drop_repeated_paragraphs, drop_shared_paragraphs

from .conftest import story


def naive_shared_bytes(text: bytes, training: list[bytes]) -> list[bool]:
    known = {piece[i : i + 60] for piece in training for i in range(len(piece) - 59)}
    shared = [False] * len(text)
    for i in range(len(text) - 59):
        if text[i : i + 60] in known:
            shared[i : i + 60] = [True] * 60
    return shared


@pytest.mark.parametrize("seed", range(5))
def test_shared_bytes_are_those_of_a_set_of_all_60_byte_strings(seed: int) -> None:
    generator = np.random.default_rng(seed)
    training = [bytes(generator.integers(0, 3, size).astype(np.uint8)) for size in (5000, 59, 0, 700)]
    fresh = bytes(generator.integers(0, 3, 400).astype(np.uint8))
    text = fresh + training[0][100:220] + fresh + training[3][:60] + fresh + training[0][-59:]
    assert shared_bytes(text, training).tolist() == naive_shared_bytes(text, training)


def test_strings_are_found_across_the_pieces_that_training_is_hashed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poslab.data.overlap._PIECE_BYTES", 100)
    training = story(1).encode()
    assert shared_bytes(training[250:450], [training]).all()


def test_near_copies_share_half_of_their_strings_and_are_alike_over_others() -> None:
    """They are copies under another headline, in another form, with another end, and templates with other numbers."""
    body, other = (" ".join(story(number, paragraphs=1).split()) for number in (1, 2))
    prize = "Urgent! You have won a prize of your choice. Claim it from a land line today: code {}, call {}"
    texts = [
        *(f"Rates rise\n\n{body}", f"Bank acts again\n\n{body.upper()}!", f"{body} {other[: len(body) // 3]}"),
        *(other, prize.format(900, "09061701461"), prize.format(2000, "08712300220")),
        *("Ok...", "ok", "Okay", ""),
    ]
    groups = near_copies(texts)
    alike = {frozenset(np.flatnonzero(groups == group).tolist()) for group in groups}
    assert alike == {frozenset(own) for own in ({0, 1, 2}, {3}, {4, 5}, {6, 7}, {8}, {9})}


def test_a_text_shorter_than_60_bytes_shares_nothing() -> None:
    assert not shared_bytes(b"short", [b"short" * 100]).any()
    assert shared_fraction([], [b"text"]) == 0


def test_shared_fraction_counts_text_and_not_what_separates_documents() -> None:
    assert shared_fraction([story(1), story(1)], [story(1).encode()]) == 1.0
    assert shared_fraction([story(2)], [story(1).encode()]) == 0.0
    assert shared_fraction([story(1), story(1)], [SEPARATOR.join([story(1).encode()] * 3)]) == 1.0


def test_repeated_paragraphs_are_dropped_once_over_all_documents() -> None:
    documents = ["a\n\nb\n\n a \n\n\n\nc", "b\n\nd", "a\n\nb"]
    assert drop_repeated_paragraphs(documents) == ["a\n\nb\n\nc", "d"]


def test_held_out_paragraphs_that_touch_a_training_string_are_dropped() -> None:
    shared = "this very paragraph stands in training as well, word for word, all of it"
    documents = [f"first é\n\n{shared}\n\nlast", shared, "untouched"]
    kept = drop_shared_paragraphs(documents, [f"before. {shared} after.".encode()])
    assert kept == ["first é\n\nlast", "untouched"]
