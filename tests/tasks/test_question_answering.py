"""Exact match and F1 of answers are those of SQuAD's script, also where nothing is left of a text."""

import itertools
import random
import string

import pytest

from poslab.tasks.question_answering import likeness

TEXTS = [
    "",
    "the",
    "The a",
    "an!",
    "...",
    "a sea",
    "sea",
    "The sea.",
    "sea sea",
    "the sea, the sea",
    "theatre",
    "a-b",
    "ab",
]


def plain(text: str) -> str:
    """Lower case, without punctuation, then without articles as whole words, with single spaces."""
    kept = ""
    for character in text:
        if character not in string.punctuation:
            kept += character.lower()
    words = [word for word in kept.split() if word not in ("a", "an", "the")]
    return " ".join(words)


def score(text: str, right: str) -> tuple[float, float]:
    """Exact match and F1 of version 1.1, by loops: where no word is shared F1 is 0, whatever the match."""
    left, shared = plain(right).split(), 0
    for word in plain(text).split():
        for place, other in enumerate(left):
            if word == other:
                del left[place]
                shared += 1
                break
    exact = float(plain(text) == plain(right))
    if shared == 0:
        return exact, 0.0
    precision, recall = shared / len(plain(text).split()), shared / len(plain(right).split())
    return exact, 2 * precision * recall / (precision + recall)


def test_figures_are_those_of_the_script_of_version_1_1():
    rng = random.Random(0)
    answers = [text for text in TEXTS if text]
    for text, right in itertools.product(answers, answers):
        others = rng.choices(answers, k=rng.randint(0, 2))
        each = [score(text, answer) for answer in (right, *others)]
        expected = (100 * max(exact for exact, _ in each), 100 * max(f1 for _, f1 in each))
        assert likeness(text, [right, *others]) == pytest.approx(expected), (text, right, others)


def test_a_text_of_articles_alone_matches_another_and_shares_no_word_with_it():
    assert likeness("the", ["An!"]) == (100, 0)


@pytest.mark.parametrize(("text", "right", "figure"), [("", [], 100), ("", ["sea"], 0), ("sea", [], 0), ("the", [], 0)])
def test_no_answer_is_right_where_there_is_none(text, right, figure):
    assert likeness(text, right) == (figure, figure)
