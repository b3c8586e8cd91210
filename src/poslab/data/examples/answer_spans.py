"""Answers that stand in a context: from the forms that data sets give them to texts and where they begin."""

from collections.abc import Mapping
from typing import Any

from poslab.data.examples.cells import as_written, is_missing


def spans(context: str, answers: Any, start: Any, place: str) -> list[dict[str, Any]]:
    """The answers to a question, in the form that its kind describes.

    Args:
        context: the text that holds them.
        answers: a text, a list of texts, SQuAD's list of `{"text", "answer_start"}`, the hub's
            `{"text": list, "answer_start": list}`, or nothing where the context has no answer.
        start: where the answer begins in the context, if `answers` is a text; without it, the first place is taken
            where it stands.
        place: where this is, for messages.

    Raises:
        ValueError: an answer does not stand in the context, or not where it is said to; it begins with `answer`.
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
