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
        ValueError: beginning with `answer` or `start`, if an answer does not stand in the context, or not at its start,
            or some answers have no start and others do.
    """
    return [_span(context, text, begin, place) for text, begin in _texts_and_starts(answers, start, place)]


def _texts_and_starts(answers: Any, start: Any, place: str) -> list[tuple[str, Any]]:
    if is_missing(answers):
        return []
    if isinstance(answers, Mapping):
        texts, starts = answers.get("text"), answers.get("answer_start", answers.get("start"))
        if not isinstance(texts, list):
            return _texts_and_starts(texts, starts, place)
        starts = starts or [None] * len(texts)
        if not isinstance(starts, list) or len(starts) != len(texts):
            raise ValueError(f"start must be that of each answer or of none, but {place} has {starts!r} of {texts!r}")
        pairs = zip(texts, starts, strict=True)
        return [pair for text, begin in pairs for pair in _texts_and_starts(text, begin, place)]
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
