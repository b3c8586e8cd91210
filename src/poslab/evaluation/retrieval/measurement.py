"""Measurement of retrieval over lengths and depths, from one forward pass over question and answer together.

    frame = retrieval(model, tokenizer, lengths=[256, 512, 1024], filler=test_text)

Dimension letters: B prompts, T tokens of a prompt, A tokens of the longest answer, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from torch import nn

from poslab.configuration.build import nearest
from poslab.data.tokenizers import Tokenizer
from poslab.evaluation.progress import Step, at_once
from poslab.evaluation.retrieval.prompts import Haystack, Prompt, RetrievalTask
from poslab.evaluation.retrieval.tasks import TASKS
from poslab.evaluation.scores.tokens import evaluating, loss_and_correct

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)

TOKENS_AT_ONCE = 8192


def retrieval(
    model: nn.Module,
    tokenizer: Tokenizer,
    tasks: Sequence[str | RetrievalTask] = tuple(TASKS),
    *,
    lengths: Sequence[int],
    depths: Sequence[float] = DEPTHS,
    samples: int = 10,
    seed: int = 0,
    filler: str | np.ndarray | None = None,
    tokens_at_once: int = TOKENS_AT_ONCE,
    step: Step = at_once,
) -> pd.DataFrame:
    """Return how well a causal model answers retrieval prompts, by task, length and depth.

        retrieval(model, ByteTokenizer(), ["passkey", MultiKey(keys=8)], lengths=[256, 1024], filler=test_text)

    A row depends only on its own task, length and depth. Prompts of different depths differ only in the places of the
    hidden facts; prompts of different lengths have the same facts and question.

    Args:
        model: tokens (B, T) in, logits (B, T, V) out; it is not run beyond its `max_length`, if it has one.
        tokenizer: of the model.
        tasks: names of `TASKS`, or tasks with other hyperparameters; each name once.
        lengths: tokens of a prompt, the answer included.
        depths: place of the fact, from 0 (the beginning) to 1 (right before the question). A task without a depth has
            one row for each length.
        samples: prompts of each row, at least 1.
        seed: of the prompts, at least 0.
        filler: text to hide facts in, as a string or as token ids, preferably held out from training; None is short
            sentences that repeat, which `passkey` always uses.
        tokens_at_once: most tokens of a batch, which has at least one prompt; it bounds the memory.
        step: of a `Progress`, each of whose steps is a row, with its tokens as its work.

    Returns:
        Columns `task`; `length`; `depth` (NaN if the task has none); `samples`; `accuracy`, the share of prompts for
        which every token of the answer is the most probable one, and `token_accuracy`, the share of such tokens, both
        in per cent; `loss`, nats per token of the answers; `chance_loss`, the loss of a guess that knows the form of an
        answer but not the prompt. Beyond the end of a model, `samples` is 0 and the other numbers are NaN.

    Raises:
        ValueError: for an argument outside of these, or a length without room for a task's facts, question and answer.
    """
    if unknown := next((task for task in tasks if isinstance(task, str) and task not in TASKS), ""):
        raise ValueError(f"tasks must be of {', '.join(TASKS)}, got {unknown!r}{nearest(str(unknown), TASKS)}")
    chosen = [TASKS[task] if isinstance(task, str) else task for task in tasks]
    _require_arguments([task.name for task in chosen], lengths, depths, samples, seed)
    haystack = Haystack(tokenizer, filler)
    for task in chosen:
        _require_room(task, haystack, min(lengths), samples, seed)
    end = getattr(model, "max_length", None)
    depths_of = {task.name: sorted(set(depths)) if task.has_depth else [math.nan] for task in chosen}
    rows = []
    for task, length, depth in ((t, n, d) for t in chosen for n in sorted(set(lengths)) for d in depths_of[t.name]):
        row: dict[str, object] = {"task": task.name, "length": length, "depth": depth, "samples": 0}
        if end is None or length <= end:
            score = partial(_numbers, model, (task, haystack, length, depth, samples, seed), tokens_at_once)
            numbers = step(f"{task.name} at {length:,} tokens and depth {depth:g}", samples * length, score)
            row |= {"samples": samples, **dict(zip(METRICS, numbers.tolist(), strict=True))}
        rows.append(row)
    return pd.DataFrame(rows, columns=["task", "length", "depth", "samples", *METRICS])


METRICS = ("accuracy", "token_accuracy", "loss", "chance_loss")


def make_prompts(
    task: RetrievalTask, haystack: Haystack, length: int, depth: float, samples: int = 10, seed: int = 0
) -> list[Prompt]:
    """Return the prompts of one row of `retrieval`.

        prompts = make_prompts(PasskeyRetrieval(), Haystack(tokenizer), length=300, depth=0.5)
        print(tokenizer.decode(prompts[0].tokens))

    Raises:
        ValueError: for a length without room for the task's facts, question and answer.
    """
    _require_room(task, haystack, length, samples, seed)
    return [task.prompt(haystack, length, depth, _generator(task, seed, number)) for number in range(samples)]


def _numbers(model: nn.Module, of_prompts: tuple[Any, ...], tokens_at_once: int) -> np.ndarray:
    """Return the `METRICS` of the prompts that `make_prompts` makes of these arguments, (4,) float64."""
    prompts = make_prompts(*of_prompts)
    scores = score_answers(model, prompts, tokens_at_once)
    tokens = scores["tokens"].sum()
    choices = sum(prompt.log_choices for prompt in prompts)
    accuracy, right = 100 * scores["correct"].mean(), 100 * scores["tokens_correct"].sum()
    return np.array([accuracy, right / tokens, scores["loss"].sum() / tokens, choices / tokens], np.float64)


def _generator(task: RetrievalTask, seed: int, number: int) -> np.random.Generator:
    """Return the generator of one prompt, the same at every length and depth, so that rows differ only in these."""
    return np.random.default_rng([seed, crc32(task.name.encode()), number])


def _require_arguments(
    names: Sequence[str], lengths: Sequence[int], depths: Sequence[float], samples: int, seed: int
) -> None:
    if not names or len(set(names)) < len(names):
        raise ValueError(f"tasks must be one or more, each once, got {', '.join(names) or 'none'}")
    if len(lengths) == 0 or min(lengths) < 1:
        raise ValueError(f"lengths must be one or more positive integers, got {list(lengths)}")
    if len(depths) == 0 or not all(0 <= depth <= 1 for depth in depths):
        raise ValueError(f"depths must be one or more numbers from 0 to 1, got {list(depths)}")
    if samples < 1:
        raise ValueError(f"samples must be a positive integer, got {samples}")
    if seed < 0:
        raise ValueError(f"seed must be an integer of at least 0, got {seed}")


def _require_room(task: RetrievalTask, haystack: Haystack, length: int, samples: int, seed: int) -> None:
    needed = max(task.min_length(haystack, _generator(task, seed, number)) for number in range(samples))
    if length < needed:
        raise ValueError(f"lengths must be at least {needed} tokens for {task.name}, got {length}")


def score_answers(model: nn.Module, prompts: Sequence[Prompt], tokens_at_once: int = TOKENS_AT_ONCE) -> pd.DataFrame:
    """Return whether a causal model predicts the answers of prompts, and its loss on them.

    Every token of an answer is predicted from the right tokens before it. If all of them are the most probable ones,
    greedy decoding gives the answer, except under an encoding whose positions depend on the current length (dynamic
    NTK, randomized positions), which here reads the beginning of an answer as part of the whole prompt.

    Args:
        model: tokens (B, T) in, logits (B, T, V) out; a `Model` makes only the logits of answers.
        prompts: all of the same number of tokens.
        tokens_at_once: most tokens of a batch, which has at least one prompt.

    Returns:
        A row for each prompt: `correct` (bool, the whole answer), `tokens` of the answer, `tokens_correct`, and `loss`,
        nats of the whole answer.

    Raises:
        ValueError: for prompts of several lengths, or none.
    """
    lengths = sorted({len(prompt.tokens) for prompt in prompts})
    if len(lengths) != 1:
        raise ValueError(f"prompts must be one or more of the same number of tokens, got {lengths or 'none'}")
    size = max(1, tokens_at_once // lengths[0])
    # On the device of the first weight; the CPU for a model without weights.
    tensors = chain(model.parameters(), model.buffers())
    device = next((tensor.device for tensor in tensors), torch.device("cpu"))
    with torch.no_grad(), evaluating(model):
        batches = [_score(model, prompts[start : start + size], device) for start in range(0, len(prompts), size)]
    return pd.concat(batches, ignore_index=True)


def _score(model: nn.Module, prompts: Sequence[Prompt], device: torch.device) -> pd.DataFrame:
    tokens_BT = torch.from_numpy(np.stack([prompt.tokens for prompt in prompts])).to(device)
    answer_lengths = np.array([prompt.answer_length for prompt in prompts])
    longest = int(answer_lengths.max())
    targets_BA = tokens_BT[:, -longest:]
    loss_BA, correct_BA = (x.cpu().numpy() for x in loss_and_correct(model, tokens_BT[:, :-1], targets_BA))
    # Answers end where prompts do; a shorter one begins later.
    inside_BA = np.arange(longest) >= longest - answer_lengths[:, None]
    correct_B = (correct_BA & inside_BA).sum(1)
    return pd.DataFrame(
        {
            "correct": correct_B == answer_lengths,
            "tokens": answer_lengths,
            "tokens_correct": correct_B,
            "loss": np.where(inside_BA, loss_BA, 0.0).sum(1, dtype=np.float64),
        }
    )
