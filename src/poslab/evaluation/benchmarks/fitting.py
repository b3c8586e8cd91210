"""Items of a benchmark, made of prompts with the evidence for their answer."""

from __future__ import annotations

import random
import string
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from poslab.arguments import with_checked_arguments
from poslab.data.retrieval_prompts import Prompt
from poslab.data.text_files import read
from poslab.io.files import files_of, patterns_of, require_content

MAX_DISTRACTORS = 3


class TooShortError(ValueError):
    """No prompt of a task fits the length."""


@with_checked_arguments
@dataclass(frozen=True)
class Item:
    """A prompt as an item of lm-evaluation-harness, whose keys come first; see `prompts.items`."""

    index: int
    input: str
    outputs: list[str]
    gen_prefix: str
    length: int
    max_length: int
    form: str
    needles: list[str]
    hay: list[int]
    distractors: list[list[str]]
    max_new_tokens: int


def as_item(
    index: int, prompt: Prompt, length: int, max_length: int, form: str, seed: int, max_new_tokens: int
) -> dict[str, Any]:
    """Return the item of a prompt that has this length with its answer, which has at most some tokens."""
    text, prefix, outputs, hay, needles, _ = prompt
    wrong = _wrong_answers(prompt, seed, index)
    return vars(Item(index, text, outputs, prefix, length, max_length, form, [*needles], [*hay], wrong, max_new_tokens))


def _wrong_answers(prompt: Prompt, seed: int, index: int) -> list[list[str]]:
    """Return wrong answers of other values of the prompt, or of drawn ones where there are too few for one answer."""
    if prompt.others is None:
        return []
    draws, size = random.Random(f"{seed} {index}"), len(prompt.outputs)
    values = sorted({*prompt.others} - {*prompt.outputs})
    if len(values) < size:
        values = [_like(output, draws) for _ in range(MAX_DISTRACTORS) for output in prompt.outputs]
    count = min(MAX_DISTRACTORS, len(values) // size)
    chosen = draws.sample(values, count * size)
    return [chosen[start : start + size] for start in range(0, len(chosen), size)]


def _like(value: str, draws: random.Random) -> str:
    """Draw another value of the form of a number, a UUID or a variable."""
    if value.isdigit():
        return str(draws.randrange(10 ** (len(value) - 1), 10 ** len(value)))
    if "-" in value:
        return str(uuid.UUID(int=draws.getrandbits(128), version=4))
    return "".join(draws.choices(string.ascii_uppercase, k=len(value)))


def text_of(files: str | Sequence[str]) -> str:
    """Return the text of files, paths or globs; ValueError where there is none."""
    texts = []
    for path in files_of("files", patterns_of("files", files)):
        require_content("files", path, "text")
        texts.append(read(path))
    text = "\n".join(texts)
    if not text.strip():
        raise ValueError("files must contain text, but all their characters are white space")
    return text
