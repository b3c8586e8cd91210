"""Prose with prompts of retrieval and their answers, for models that are to learn to find what they have read."""

import json
import random
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from poslab.arguments import Count
from poslab.data import retrieval_prompts
from poslab.data.cache import fingerprint
from poslab.data.columns import as_examples
from poslab.data.packages import PackageText
from poslab.data.source import Share, require_choice

if TYPE_CHECKING:
    from datasets import Dataset

SHORTEST = 200
"""Bytes of a prompt that is not made shorter."""


class RetrievalText(PackageText):
    """Text in packages, to whose training split prompts with their answers are added, each a document.

    Validation and test remain prose. What a model finds is for the part `retrieval` of `evaluate`, for `poslab bench`,
    or metrics such as `mqar_accuracy@4x` of a comparison, whose prompts are other ones.

    Args:
        tasks: of `retrieval_prompts.TASKS`, all equally frequent.
        share: share of the training bytes that are prompts, above 0 and below 1 (default 0.5).
        max_prompt_bytes: prompts have from 200 to so many bytes, all equally likely, or more where a task needs them
            (default 800).
    """

    tasks: Sequence[str] = ("passkey", "mqar", "variables")
    share: Share = 0.5
    max_prompt_bytes: Count = 800

    title = "retrieval_text"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tasks:
            raise ValueError("tasks must not be empty")
        for task in self.tasks:
            require_choice("tasks", task, retrieval_prompts.TASKS)
        if self.max_prompt_bytes < SHORTEST:
            raise ValueError(f"max_prompt_bytes must be at least {SHORTEST}, got {self.max_prompt_bytes}")

    @cached_property
    def identity(self) -> str:
        code = fingerprint([Path(__file__), Path(retrieval_prompts.__file__)])  # it may be edited
        return json.dumps([super().identity, list(self.tasks), self.share, self.max_prompt_bytes, code])

    def documents(self) -> "dict[str, Dataset]":
        splits = super().documents()
        texts = list(splits["train"]["text"])
        left = self.share / (1 - self.share) * sum(len(text.encode()) for text in texts)
        draws = random.Random("training prompts")
        while left > 0:
            task, size = draws.choice(self.tasks), draws.randint(SHORTEST, self.max_prompt_bytes)
            texts.append(retrieval_prompts.document(task, draws, size))
            left -= len(texts[-1])
        return splits | {"train": as_examples(text=texts)}
