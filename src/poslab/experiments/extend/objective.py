"""Losses by which settings are compared, on texts and prompts of the new length, next to the old context.

N texts, T tokens.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from poslab.evaluation.benchmarks import prompts
from poslab.evaluation.benchmarks.fitting import text_of
from poslab.evaluation.benchmarks.long_text import KeyTokens, kept, key_tokens, token_losses, windows_of
from poslab.evaluation.benchmarks.subjects import Subject
from poslab.evaluation.benchmarks.tasks import PromptTask
from poslab.evaluation.settings import StepRunner

MIN_KEY_TOKENS = 32
"""Fewest key tokens of a set of texts; with fewer, all tokens beyond the context count."""

MIN_TEXTS = {"search": 1, "decision": 1, "report": 2}
"""Fewest texts of each set; the report needs two for an interval."""


@dataclass(frozen=True)
class Items:
    """Texts and prompts on which settings are measured: as many prompts of each task as texts.

    Args:
        name: of the set: settings are searched on one, decided on another, and reported on a third.
        windows: token ids of texts, (N, T + 1).
        prompts: of at most T tokens.
        context: the old context, in tokens.
        key_tokens: makes the mask (N, T) of the tokens whose loss counts.
    """

    name: str
    windows: np.ndarray
    prompts: Sequence[PromptTask]
    context: int
    key_tokens: KeyTokens

    @property
    def length(self) -> int:
        return self.windows.shape[1] - 1

    @property
    def size(self) -> int:
        return len(self.windows)

    @property
    def identity(self) -> str:
        """Equal for equal texts and prompts."""
        return hashlib.sha256(self.windows.tobytes() + "".join(p.identity for p in self.prompts).encode()).hexdigest()


@dataclass(frozen=True)
class Losses:
    """Mean losses in nats per token: of the key tokens of long texts, of answers, and within the old context."""

    text: float
    answers: float
    short: float

    @property
    def objective(self) -> float:
        """The loss that a search minimises: a token of a text counts as much as a token of an answer."""
        total = self.text + self.answers
        return total if math.isfinite(total) else 1e3


def sets_of(
    subject: Subject, files: Any, tasks: Sequence[str], to: int, sizes: Mapping[str, int], seed: int, share: float = 1
) -> dict[str, Items]:
    """Return sets of texts and prompts by name, which have none in common; the hay of their prompts is of all texts.

    Key tokens are those that the model predicts in windows of its context, and not after a short context.

    Args:
        subject: the model in windows of its context.
        files: text files, paths or globs.
        tasks: of the prompts, of `prompts.TASKS`.
        to: length of the texts and the prompts, in tokens.
        sizes: texts of each set, in order; fewer where the files have fewer.
        share: most of all texts that the sets have together.
        seed: of the order of the texts, and of the prompts.

    Raises:
        ValueError: for files with fewer texts than `MIN_TEXTS`.
    """
    total = sum(sizes.values())
    called = prompts.called(subject.tokenizer)
    windows = windows_of(called, to, total, seed, files, "text", share)
    needed = sum(MIN_TEXTS[name] for name in sizes)
    if len(windows) < needed:
        raise ValueError(f"text must contain {needed} texts of {to + 1:,} tokens, and has {len(windows)}")
    order = np.random.default_rng(seed).permutation(len(windows))
    rest = len(windows) - needed
    counts = [MIN_TEXTS[name] + rest * size // total for name, size in sizes.items()]
    parts = np.split(order, np.cumsum(counts))[: len(sizes)]
    own = text_of(files)
    sets = {}
    for number, (name, part) in enumerate(zip(sizes, parts, strict=True)):
        made = [
            PromptTask(
                task, to, prompts.items(task, subject.tokenizer, to, len(part), seed + number, text=own), ("forced",)
            )
            for task in tasks
        ]
        texts = windows[part]
        context = subject.training_length
        mask = key_tokens(texts, lambda: subject.lm(to), f"{subject.name} of {name}", context)
        sets[name] = Items(name, texts, made, context, beyond(mask, context))
    return sets


def beyond(mask: KeyTokens, context: int) -> KeyTokens:
    """Return what makes the mask of the key tokens beyond a context, or of all tokens there if few are key tokens."""

    def make(step: StepRunner) -> np.ndarray:
        is_key_NT = mask(step).copy()
        is_key_NT[:, :context] = False
        if is_key_NT.sum() < MIN_KEY_TOKENS:
            is_key_NT[:, context:] = True
        return is_key_NT

    return make


def losses(subject: Subject, items: Items, is_key: np.ndarray, count: int, step: StepRunner) -> Losses:
    """Return the losses of a model on the first texts, and the first prompts of each task; what is known is kept.

    Args:
        subject: the model.
        items: texts and prompts.
        is_key: mask of the tokens whose loss counts, (N, T).
        count: number of texts.
        step: makes what an interrupted search keeps.
    """
    lm = cache(subject.lm)
    text, number, short, answers = 0.0, 0, [], []
    for n in range(count):
        ids, old = items.windows[n], items.windows[n][-items.context - 1 :]

        def of_text(ids: np.ndarray) -> np.ndarray:
            return token_losses(lm(len(ids) - 1), ids)

        losses_T = kept(step, f"{items.name} text {n + 1}", 0.0, partial(of_text, ids), [items.length])
        text, number = text + float(losses_T[is_key[n]].sum()), number + int(is_key[n].sum())
        within = kept(step, f"{items.name} context {n + 1}", 0.0, partial(of_text, old), [items.context])
        short.append(float(within.mean()))
        for task in items.prompts:

            def of_answer(task: PromptTask = task, n: int = n) -> np.ndarray:
                return task.item(n).answer_losses(lm(items.length))

            answers.append(kept(step, f"{items.name} {task.name} {n + 1}", 0.0, of_answer, [1, 2]))
    sums, tokens = np.concatenate(answers).sum(0)
    return Losses(text / max(number, 1), float(sums / tokens), float(np.mean(short)))
