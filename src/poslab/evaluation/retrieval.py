"""Retrieval tasks with answers in their prompts: benchmark tasks, and copying of tokens.

Dimension letters: B prompts, T tokens of a prompt, A tokens of the longest answer, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from string import ascii_lowercase
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from torch import nn

from poslab.arguments import nearest
from poslab.data.retrieval_prompts import ADJECTIVES, NAMES, PLACES, SENTENCES, THINGS, VERBS, WHERE, answer_text
from poslab.data.tokenizers import Tokenizer
from poslab.evaluation.benchmarks.fitting import TooShortError
from poslab.evaluation.benchmarks.prompts import GROUPS, HAVE_DEPTH, items
from poslab.evaluation.scores.tokens import evaluating, loss_and_correct

TOKENS_AT_ONCE = 8192
"""Tokens of a batch, which has at least one prompt."""


class Haystack:
    """A tokenizer, and text to hide facts in.

    Args:
        tokenizer: of the model.
        filler: preferably held out from training, as a string or as token ids; None is short sentences that repeat.

    Attributes:
        text: the filler, without ends of documents, at which a model may have learned to forget.
        alphabet: tokens of random sequences: the different ones of the filler, since others may not occur in training;
            without a filler, all tokens but the end of a document.

    Raises:
        ValueError: for a filler without any token.
    """

    def __init__(self, tokenizer: Tokenizer, filler: str | np.ndarray | None = None) -> None:
        self.tokenizer = tokenizer
        if filler is None:
            self.text = " ".join(SENTENCES)
            self.alphabet = np.setdiff1d(np.arange(tokenizer.vocab_size), [tokenizer.end_id])
            return
        tokens = tokenizer.encode(filler) if isinstance(filler, str) else filler
        tokens = tokens[tokens != tokenizer.end_id].astype(np.int64)
        if not len(tokens):
            raise ValueError("filler must contain at least one token of text, got none")
        self.text, self.alphabet = tokenizer.decode(tokens), np.unique(tokens)


@dataclass(frozen=True, eq=False)
class Prompt:
    """A text whose last tokens are an answer that the rest of it determines.

    A guess that knows the form of answers but not the text is right with probability `exp(-log_choices)`, at a loss of
    `log_choices / answer_length` nats per token.

    Args:
        tokens: token ids (T,), int64, the answer included.
        answer_length: number of last tokens that are the answer, at least 1.
        log_choices: natural logarithm of the number of answers of this form: ln 90,000 for a pass key.
    """

    tokens: np.ndarray
    answer_length: int
    log_choices: float


@dataclass(frozen=True)
class RetrievalTask:
    """A maker of prompts. The same seed makes the same prompts.

    Args:
        name: lower case, with underscores.
        about: one sentence on the task.
        source: a paper.
        has_depth: whether the fact to be found is at one position, which a depth can choose.
        repeat: returns a prompt of a length, the shortest one if it is too short; None for `items` of that name.
    """

    name: str
    about: str
    source: str
    has_depth: bool = False
    repeat: Callable[[Haystack, int, np.random.Generator], Prompt] | None = None

    def prompts(
        self, haystack: Haystack, length: int, depth: float = 0.0, samples: int = 10, seed: int = 0
    ) -> list[Prompt]:
        """Return prompts of at most a length in tokens, the answer included; copying and induction fill it.

            prompts = TASKS["passkey"].prompts(Haystack(tokenizer), length=300, depth=0.5)
            print(tokenizer.decode(prompts[0].tokens))

        The depth is the share of the filler before the fact to be found, from 0 (the beginning) to 1 (right before the
        question); a task without a depth ignores it.

        Raises:
            TooShortError: for a length without room for the task's facts, question and answer.
        """
        if self.repeat is None:
            at = depth if self.has_depth else None
            made = items(self.name, haystack.tokenizer, length, samples, seed, text=haystack.text, depth=at)
            return [self._of_item(haystack.tokenizer, item) for item in made]
        generators = [np.random.default_rng([seed, crc32(self.name.encode()), number]) for number in range(samples)]
        if length < (needed := len(self.repeat(haystack, 0, np.random.default_rng(0)).tokens)):
            raise TooShortError(f"lengths must be at least {needed} tokens for {self.name}, got {length}")
        return [self.repeat(haystack, length, generator) for generator in generators]

    def _of_item(self, tokenizer: Tokenizer, item: dict[str, Any]) -> Prompt:
        """Return an item with its answer, whose values are in the order in which the prompt or its question has them.

        If the first space is its own token, as in bytes, it goes to the question: predicting it proves nothing.
        """
        outputs = item["outputs"]
        if self.name == "niah_multivalue":
            outputs = sorted(outputs, key=item["input"].index)
        text = answer_text(self.name, outputs)
        question, answer, alone = map(tokenizer.encode, (f"{item['input']} {item['gen_prefix']}", text, text[1:]))
        size = len(alone) if np.array_equal(answer[-len(alone) :], alone) else len(answer)
        tokens = np.concatenate([question, answer]).astype(np.int64)
        return Prompt(tokens, size, sum(map(log_choices, outputs)))


def copying(haystack: Haystack, length: int, generator: np.random.Generator) -> Prompt:
    """Return a random string of letters after a line break, and the same again: `"\\nqzmkahv\\nqzmkahv"`.

    The answer is the whole second string, whose beginning the line break marks. A prompt of an odd number of bytes
    starts with two line breaks. The longer the string, the more letters determine the next one: among 500 letters most
    pairs occur more than once, with different successors.
    """
    separator = haystack.tokenizer.encode("\n").astype(np.int64)
    # The letter is the last token: tokenizers may put a space before it.
    letters = np.array([haystack.tokenizer.encode(letter)[-1] for letter in ascii_lowercase], np.int64)
    num_letters, odd = divmod(max(length - 2 * len(separator), 2), 2)
    string = generator.choice(letters, num_letters)
    tokens = np.concatenate([separator[-1:].repeat(odd), separator, string, separator, string])
    return Prompt(tokens, num_letters, log_choices=num_letters * math.log(len(letters)))


def induction(haystack: Haystack, length: int, generator: np.random.Generator) -> Prompt:
    """Return random tokens, and the same again without a mark at its beginning: `17 203 88 5 17 203 88 5`.

    The answer is the second half without its first token, which is unpredictable: `203 88 5`. Guessing costs the
    logarithm of the number of different tokens of the filler, or of the vocabulary without one. A prompt of an odd
    number of tokens starts with one more random token. A token that occurs twice in a half does not determine the next.
    """
    length = max(length, 4)
    half = length // 2
    first = generator.choice(haystack.alphabet, length - half)
    tokens = np.concatenate([first, first[-half:]])
    return Prompt(tokens, half - 1, log_choices=(half - 1) * math.log(len(haystack.alphabet)))


ABOUT = {
    "passkey": ("Sentences that repeat hide a number, and a question asks for it.", "pass keys", "2305.16300"),
    "mqar": ("A text states numbers of things, and asks for each again.", "MQAR", "2312.04927"),
    "variables": ("As vt, in its form without a solved example.", "RULER", "2404.06654"),
    "niah": ("A text hides values of keys, and ends with a question about some of them.", "RULER", "2404.06654"),
    "vt": ("A text hides variables that are set to each other, and asks which have one value.", "RULER", "2404.06654"),
    "json": ("A JSON object of UUIDs, and a question about the value of one key.", "Lost in the Middle", "2307.03172"),
    "mrcr": ("A conversation repeats a request, and ends with a question about one answer.", "MRCR", "2409.12640"),
    "babilong": ("A text hides facts about people, and ends with a question about them.", "BABILong", "2406.10149"),
}
"""About tasks of benchmarks by the first word of their names: one sentence, and the form with its arXiv number."""

REPEATS = (
    RetrievalTask(
        "copying",
        "A random string of letters fills half of the prompt, and is repeated after a line break.",
        "Jelassi et al., Repeat After Me (ICML 2024), section 2",
        repeat=copying,
    ),
    RetrievalTask(
        "induction",
        "Random tokens fill half of the prompt, and the other half repeats them.",
        "Olsson et al., In-context Learning and Induction Heads (2022), arXiv 2209.11895",
        repeat=induction,
    ),
)

TASKS: dict[str, RetrievalTask] = {
    name: RetrievalTask(name, about, f"Form of {form}, arXiv {paper}", name in HAVE_DEPTH)
    for name in (*GROUPS["retrieval"], *GROUPS["ruler"], *GROUPS["ruler_text"])
    if name not in ("cwe", "fwe")  # all of the prompt is evidence, and a guess has no known loss
    for about, form, paper in [ABOUT[name.partition("_")[0]]]
} | {task.name: task for task in REPEATS}
"""All tasks by name."""

DEFAULT_TASKS = ("passkey", "mqar", "variables", "json_kv", "mrcr_2", "babilong_qa1", "copying", "induction")
"""Tasks that need no package."""

RENAMED = {
    "needle": "niah_single_2",
    "multi_key": "niah_multikey_1",
    "multi_value": "niah_multivalue",
    "variable_tracking": "vt",
}
"""Earlier tasks, and the tasks of RULER that are like them."""


def require_tasks(names: Sequence[str]) -> None:
    """Raise ValueError for a name that is of no task."""
    for name in names:
        if name in RENAMED:
            raise ValueError(f"tasks must name {RENAMED[name]} instead of {name}, which was removed")
        if name not in TASKS:
            raise ValueError(f"tasks must be of {', '.join(TASKS)}, got {name!r}{nearest(name, TASKS)}")


def log_choices(output: str) -> float:
    """Return the logarithm of the number of answers with the form of this one; the code of MRCR is known."""
    if output in PLACES:
        return math.log(len(PLACES))
    if output.isdigit():
        return math.log(9) + (len(output) - 1) * math.log(10)
    if output in NAMES:
        return math.log(len(NAMES))
    if output.isupper():
        return len(output) * math.log(26)
    if "\n" not in output:
        return 122 * math.log(2)  # a UUID of version 4
    line = math.log(len(ADJECTIVES) * len(VERBS) * len(WHERE))
    return (output.count("\n") + 1) * line + output.count("\n") * math.log(len(THINGS))


def score_answers(model: nn.Module, prompts: Sequence[Prompt], tokens_at_once: int = TOKENS_AT_ONCE) -> pd.DataFrame:
    """Return whether a causal model predicts the answers of prompts, and its loss on them.

    Every token of an answer is predicted from the right tokens before it. If all of them are the most probable ones,
    greedy decoding gives the answer, except under an encoding whose positions depend on the current length (dynamic
    NTK, randomized positions), which here reads the beginning of an answer as part of the whole prompt.

    The model takes tokens (B, T) and returns logits (B, T, V); a `Model` makes only the logits of answers.

    Returns:
        A row for each prompt: `correct` (bool, the whole answer), `tokens` of the answer, `tokens_correct`, and `loss`,
        nats of the whole answer.

    """
    by_length: dict[int, list[int]] = {}
    for number, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt.tokens), []).append(number)
    sizes = {length: max(1, tokens_at_once // length) for length in by_length}
    chunks = [
        numbers[start : start + sizes[length]]
        for length, numbers in by_length.items()
        for start in range(0, len(numbers), sizes[length])
    ]
    # On the device of the first weight; the CPU for a model without weights.
    tensors = chain(model.parameters(), model.buffers())
    device = next((tensor.device for tensor in tensors), torch.device("cpu"))
    batches = []
    with torch.no_grad(), evaluating(model):
        for chunk in chunks:
            of_batch = [prompts[number] for number in chunk]
            tokens_BT = torch.from_numpy(np.stack([prompt.tokens for prompt in of_batch])).to(device)
            answer_lengths = np.array([prompt.answer_length for prompt in of_batch])
            longest = int(answer_lengths.max())
            scores = loss_and_correct(model, tokens_BT[:, :-1], tokens_BT[:, -longest:])
            loss_BA, correct_BA = (x.cpu().numpy() for x in scores)
            # Answers end where prompts do; a shorter one begins later.
            inside_BA = np.arange(longest) >= longest - answer_lengths[:, None]
            correct_B = (correct_BA & inside_BA).sum(1)
            loss_B = np.where(inside_BA, loss_BA, 0.0).sum(1, dtype=np.float64)
            columns = {"correct": correct_B == answer_lengths, "tokens": answer_lengths, "tokens_correct": correct_B}
            batches.append(pd.DataFrame({**columns, "loss": loss_B}, index=chunk))
    return pd.concat(batches).sort_index()
