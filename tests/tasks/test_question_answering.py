"""Exact match and F1 of answers are those of SQuAD's script, also where nothing is left of a text."""

import random
import re
import string

import numpy as np
import pytest
import torch

from poslab.tasks.question_answering import Context, best_spans, likeness

PIECES = ["the", "The", "a", "an", "sea", "Sea", "theatre", "ÉTÉ", "x1", " ", "  ", ".", "-", "\N{EN DASH}", "'s", "\n"]


def some_text(rng: random.Random) -> str:
    return "".join(rng.choices(PIECES, k=rng.randint(1, 7)))


def plain(text: str) -> str:
    """Lower case, without punctuation, then without articles as whole words, with single spaces."""
    kept = "".join(character.lower() for character in text if character not in string.punctuation)
    parts = re.findall(r"\w+|\W", kept)
    return " ".join("".join(" " if part in ("a", "an", "the") else part for part in parts).split())


def score(text: str, right: str) -> tuple[float, float]:
    """Exact match and F1 of version 1.1, by loops: where no word is shared F1 is 0, whatever the match."""
    left, shared = plain(right).split(), 0
    for word in plain(text).split():
        for position, other in enumerate(left):
            if word == other:
                del left[position]
                shared += 1
                break
    exact = float(plain(text) == plain(right))
    if shared == 0:
        return exact, 0.0
    precision, recall = shared / len(plain(text).split()), shared / len(plain(right).split())
    return exact, 2 * precision * recall / (precision + recall)


def test_metrics_are_those_of_the_script_of_version_1_1():
    rng, metrics = random.Random(0), set()
    for _ in range(3_000):
        text, *right = (some_text(rng) for _ in range(rng.randint(2, 4)))
        each = [score(text, answer) for answer in right]
        expected = (100 * max(exact for exact, _ in each), 100 * max(f1 for _, f1 in each))
        assert likeness(text, right) == pytest.approx(expected), (text, right)
        metrics.add(expected)
    assert {(0, 0), (100, 0), (100, 100)} < metrics


@pytest.mark.parametrize(("text", "right", "metric"), [("", [], 100), ("", ["sea"], 0), ("sea", [], 0), ("the", [], 0)])
def test_no_answer_is_right_where_there_is_none(text, right, metric):
    assert likeness(text, right) == (metric, metric)


@pytest.mark.parametrize("longest", [1, 4, 30])
@pytest.mark.parametrize("tokens", [1, 2, 9, 40])
def test_the_best_spans_are_those_of_a_loop_over_all_pairs(tokens, longest):
    """Of a first and a last token; both are 0 where there is no answer."""
    generator = torch.Generator().manual_seed(0)
    log_p = torch.randn(30, tokens, 2, generator=generator, dtype=torch.float64)
    log_p[:, 1:][torch.rand(30, tokens - 1, generator=generator) < 0.3] = -torch.inf  # what cannot be an answer
    for row, result in zip(log_p.tolist(), best_spans(log_p, longest), strict=True):
        spans = [(0, 0)]
        for first in range(1, tokens):
            for last in range(first, min(first + longest, tokens)):
                spans.append((first, last))
        assert result == max(spans, key=lambda span: row[span[0]][0] + row[span[1]][1])


def test_an_answer_is_without_the_space_that_its_first_token_begins_with():
    context = Context("in Lima now", 3, np.array([[0, 2], [2, 7], [7, 11]]))
    assert context.between(4, 4) == "Lima"
    assert context.between(3, 5) == "in Lima now"
    assert context.between(2, 4) == ""
