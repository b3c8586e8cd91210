"""Prose with prompts of retrieval and their answers, for models that are to learn to find what they have read."""

import json
import random
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from poslab.arguments import Count, Range
from poslab.data import retrieval_prompts
from poslab.data.cache import fingerprint
from poslab.data.columns import as_examples
from poslab.data.packages import PackageText
from poslab.data.source import Share, require_choice

if TYPE_CHECKING:
    from datasets import Dataset


class RetrievalText(PackageText):
    """Text in packages, to whose training split prompts with their answers are added, each a document.

    Validation and test remain prose. What a model finds is for the part `retrieval` of `evaluate`, for `poslab bench`,
    or metrics such as `mqar_accuracy@4x` of a comparison, whose prompts are other ones. Small models learn from short
    prompts first, with few pairs or hops, and digits that are tokens (`tokenizer=bpe_digits`).

    Args:
        tasks: of `retrieval_prompts.TASKS`, all equally frequent.
        share: share of the training bytes that are prompts, above 0 and below 1 (default 0.5).
        min_prompt_bytes, max_prompt_bytes: prompts have from so many to so many bytes, all equally likely, or more
            where a task needs them (default 200 and 800).
        num_pairs: numbers that a prompt of mqar states, at most 100 (default 8, as in the benchmark).
        num_hops: variables of each chain that are set to another one (default 4, as in the benchmark).
        max_prose_characters: characters of prose in training, its first documents; None: all (default).
    """

    tasks: Sequence[str] = ("passkey", "mqar", "variables")
    share: Share = 0.5
    min_prompt_bytes: Count = 200
    max_prompt_bytes: Count = 800
    num_pairs: Annotated[int, Range(at_least=1, at_most=100)] = retrieval_prompts.NUM_PAIRS
    num_hops: Annotated[int, Range(at_least=0, at_most=100)] = retrieval_prompts.HOPS
    max_prose_characters: Count | None = None

    title = "retrieval_text"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tasks:
            raise ValueError("tasks must not be empty")
        for task in self.tasks:
            require_choice("tasks", task, retrieval_prompts.TASKS)
        if self.max_prompt_bytes < self.min_prompt_bytes:
            least = f"min_prompt_bytes={self.min_prompt_bytes}"
            raise ValueError(f"max_prompt_bytes must be at least {least}, got {self.max_prompt_bytes}")

    @cached_property
    def identity(self) -> str:
        code = fingerprint([Path(__file__), Path(retrieval_prompts.__file__)])  # it may be edited
        sizes = [self.min_prompt_bytes, self.max_prompt_bytes, self.num_pairs, self.num_hops, self.max_prose_characters]
        return json.dumps([super().identity, list(self.tasks), self.share, sizes, code])

    def documents(self) -> "dict[str, Dataset]":
        splits = super().documents()
        texts = first_texts(splits["train"]["text"], self.max_prose_characters)
        left = self.share / (1 - self.share) * sum(len(text.encode()) for text in texts)
        draws = random.Random("training prompts")
        while left > 0:
            task, size = draws.choice(self.tasks), draws.randint(self.min_prompt_bytes, self.max_prompt_bytes)
            texts.append(retrieval_prompts.document(task, draws, size, self.num_pairs, self.num_hops))
            left -= len(texts[-1])
        return splits | {"train": as_examples(text=texts)}


def first_texts(texts: Iterable[str], most: int | None) -> list[str]:
    """Return the first texts of at most so many characters together, of which the last is cut; None: all of them."""
    kept, left = [], most
    for text in texts:
        if left is not None:
            text = text[:left]
            left -= len(text)
        if text:
            kept.append(text)
    return kept
