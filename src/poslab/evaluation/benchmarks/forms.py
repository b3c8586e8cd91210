"""Items of the tasks whose prompts Poslab makes by rule, and the score of MRCR."""

from __future__ import annotations

import random
from collections.abc import Callable
from difflib import SequenceMatcher
from typing import Any

from poslab.data.retrieval_prompts import (
    BABILONG,
    CODE_LENGTH,
    FORMS,
    answer_text,
    builder,
    largest_that_fits,
    sentences_of,
)
from poslab.evaluation.benchmarks.fitting import TooShortError, as_item


def form_items(
    task: str,
    tokenizer: Callable[[str], Any],
    length: int,
    count: int,
    seed: int = 42,
    *,
    text: str | None = None,
    depth: float | None = None,
) -> list[dict[str, Any]]:
    """Return items of a task of `TASKS`, as `prompts.items` does, made again, each with as much hay as fits.

    Args:
        text: in which the tasks `BABILONG` hide their facts; None is sentences made by rule.
        depth: as of `builder`.

    Raises:
        ValueError: for a short length, with the least length in the message.
    """
    sentences = sentences_of(text) if text is not None and task in BABILONG else []
    form = FORMS.get(task, f"BABILong form, own facts and {'text' if sentences else 'noise'}")

    def item_of(index: int) -> dict[str, Any]:
        build = builder(task, random.Random(f"{task} {seed} {index}"), depth, sentences)

        def item(size: int) -> dict[str, Any]:
            prompt = build(size)
            item = as_item(index, prompt, 0, length, form, seed, 0)
            answers = [answer_text(task, outputs) for outputs in (item["outputs"], *item["distractors"])]
            prompt_length, *answer_lengths = (len(tokenizer(text).input_ids) for text in (prompt.written, *answers))
            longest = max(answer_lengths)
            return item | {"length": prompt_length + longest, "max_new_tokens": longest}

        size = 1
        while item(size)["length"] <= length and size < length:
            size *= 2
        return item(largest_that_fits(lambda size: item(size)["length"] <= length, max(size // 2, 1), size))

    items = [item_of(index) for index in range(count)]
    if (needed := max(item["length"] for item in items)) > length:
        least = f"task={task} needs a length of at least {needed} tokens with this tokenizer"
        raise TooShortError(f"{least}, got {length}")
    return items


def mrcr_score(answer: str, expected: str) -> float:
    """Return how similar two answers of MRCR are after their code, from 0 to 1, and 0 for an answer without the code.

    The similarity is `difflib.SequenceMatcher.ratio`, as in OpenAI's MRCR.
    """
    code = expected[:CODE_LENGTH]
    if not answer.startswith(code):
        return 0.0
    return SequenceMatcher(None, answer.removeprefix(code), expected.removeprefix(code)).ratio()
