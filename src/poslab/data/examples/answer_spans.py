"""Answers within a context: read the forms of different data sets as texts with their first characters."""

from collections.abc import Mapping
from typing import Any

from poslab.data.examples.cells import as_written, is_missing


def spans(context: str, answers: Any, start: Any, place: str) -> list[dict[str, Any]]:
    """Return the answers to a question, in the form of their kind.

    Args:
        context: the text that holds them.
        answers: a text, a list of texts, SQuAD's list of `{"text", "answer_start"}`, the hub's
            `{"text": list, "answer_start": list}`, or nothing where the context has no answer.
        start: first character of the answer in the context, if `answers` is a text; None searches for the text.
        place: of the question, for messages.

    Raises:
        ValueError: beginning with `answer` or `start`, if an answer does not stand in the context, or not at its start.
    """
    return [_span(context, text, begin, place) for text, begin in _texts_and_starts(answers, start, place)]


def _texts_and_starts(answers: Any, start: Any, place: str) -> list[tuple[str, Any]]:
    if is_missing(answers):
        return []
    if isinstance(answers, Mapping) and isinstance(answers.get("text"), list):
        texts = answers["text"]
        starts = answers.get("answer_start", answers.get("start")) or [None] * len(texts)
        return [
            pair for text, begin in zip(texts, starts, strict=True) for pair in _texts_and_starts(text, begin, place)
        ]
    if isinstance(answers, Mapping):
        return _texts_and_starts(answers.get("text"), answers.get("answer_start", answers.get("start")), place)
    if isinstance(answers, list):
        return [pair for answer in answers for pair in _texts_and_starts(answer, None, place)]
    return [(answers if isinstance(answers, str) else as_written(answers), start)]


def _span(context: str, text: str, start: Any, place: str) -> dict[str, Any]:
    if is_missing(start):
        found = context.find(text)
        if found < 0:
            raise ValueError(f"answer must stand in its context, but {text[:60]!r} of {place} does not")
        return {"text": text, "start": found}
    try:
        begin = int(start)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"start must be a whole number, but {start!r} of {place} is none") from None
    if begin < 0 or not context.startswith(text, begin):
        raise ValueError(
            f"answer must stand in its context where its start says, but {text[:60]!r} of {place} does not"
        )
    return {"text": text, "start": begin}
