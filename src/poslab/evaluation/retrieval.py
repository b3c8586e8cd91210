"""Retrieval tasks with answers in their prompts: benchmark tasks, pass keys, and copying of tokens.

Dimension letters: B prompts, T tokens of a prompt, A tokens of the longest answer, V vocabulary.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from operator import itemgetter
from string import ascii_lowercase
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from torch import nn

from poslab.arguments import nearest
from poslab.data.tokenizers import Tokenizer
from poslab.evaluation.benchmarks.fitting import TooShortError
from poslab.evaluation.benchmarks.forms import ADJECTIVES, PLACES, THINGS, VERBS, WHERE
from poslab.evaluation.benchmarks.prompts import GROUPS, HAVE_DEPTH, items
from poslab.evaluation.scores.tokens import evaluating, loss_and_correct

SENTENCES = "The path goes on. The wind is cold. The hills are far away. We walk, and we rest, and we walk again. "

DIGITS = 5
"""Digits of a pass key."""

TOKENS_AT_ONCE = 8192
"""Tokens of a batch, which has at least one prompt."""


class Haystack:
    """A tokenizer and text in its tokens.

    The tasks of this file encode texts piece by piece, so that a word has the same tokens everywhere, and join prompts
    from tokens, so that their length is exact.

    Args:
        tokenizer: of the model.
        filler: text to hide facts in, preferably held out from training, as a string or as token ids; None is short
            sentences that repeat.

    Attributes:
        sentences: token ids of the sentences, int64.
        text: token ids of the filler, int64, without ends of documents, at which a model may have learned to forget.
        alphabet: tokens of random sequences: the different ones of the filler, since others may not occur in training;
            without a filler, all tokens but the end of a document.

    Raises:
        ValueError: for a filler without any token.
    """

    def __init__(self, tokenizer: Tokenizer, filler: str | np.ndarray | None = None) -> None:
        self.tokenizer = tokenizer
        self.sentences = self.tokens(SENTENCES)
        if filler is None:
            self.text = self.sentences
            self.alphabet = np.setdiff1d(np.arange(tokenizer.vocab_size), [tokenizer.end_id])
        else:
            tokens = self.tokens(filler) if isinstance(filler, str) else filler.astype(np.int64)
            self.text = tokens[tokens != tokenizer.end_id]
            self.alphabet = np.unique(self.text)
        if not len(self.text):
            raise ValueError("filler must contain at least one token of text, got none")

    @cached_property
    def written(self) -> str:
        """The filler as text."""
        return self.tokenizer.decode(self.text)

    def tokens(self, *pieces: str) -> np.ndarray:
        """Return the token ids of pieces of text, each encoded by itself, int64."""
        return np.concatenate([self.tokenizer.encode(piece).astype(np.int64) for piece in pieces])

    def question_and_answer(self, question: str, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the tokens of a question, and of an answer whose words follow it with a space before each.

        If the first space is its own token, as in bytes, it goes to the question: predicting it proves nothing.
        """
        first, alone = self.tokens(f" {words[0]}"), self.tokens(words[0])
        num_before = len(first) - len(alone) if np.array_equal(first[-len(alone) :], alone) else 0
        answer = self.tokens(*(f" {word}" for word in words))
        return np.concatenate([self.tokens(question), answer[:num_before]]), answer[num_before:]


def stretch(text: np.ndarray, length: int, generator: np.random.Generator) -> np.ndarray:
    """Return `length` tokens of a text from a random position on; its beginning follows its end."""
    start = int(generator.integers(len(text)))
    return text.take(np.arange(start, start + length), mode="wrap")


def insert_needles(filler: np.ndarray, needles: Sequence[tuple[float, np.ndarray]]) -> np.ndarray:
    """Insert needles into a filler: token ids with their depths, the share (0 to 1) of the filler before them.

    Needles of equal depth keep their order.
    """
    pieces, taken = [], 0
    for depth, needle in sorted(needles, key=itemgetter(0)):
        end = round(depth * len(filler))
        pieces += [filler[taken:end], needle]
        taken = end
    return np.concatenate([*pieces, filler[taken:]])


@dataclass(frozen=True, eq=False)
class Prompt:
    """A text whose last tokens are an answer that the rest of it determines.

    A guess that knows the form of answers but not the text is right with probability `exp(-log_choices)`, at a loss of
    `log_choices / answer_length` nats per token.

    Args:
        tokens: token ids (T,), int64, the answer included.
        answer_length: number of last tokens that are the answer, at least 1.
        log_choices: natural logarithm of the number of answers of this form: 5 ln 10 for a number of five digits.
    """

    tokens: np.ndarray
    answer_length: int
    log_choices: float


@dataclass(frozen=True)
class RetrievalTask(ABC):
    """A maker of prompts. The same seed makes the same prompts.

    Args:
        name: lower case, with underscores.
        about: one sentence on the task.
        source: a paper and section.
        has_depth: whether the fact to be found is at one position, which a depth can choose.
    """

    name: str
    about: str
    source: str
    has_depth: bool = field(default=True, kw_only=True)

    @abstractmethod
    def prompts(
        self, haystack: Haystack, length: int, depth: float = 0.0, samples: int = 10, seed: int = 0
    ) -> list[Prompt]:
        """Return prompts of at most a length in tokens, the answer included.

            prompts = TASKS["passkey"].prompts(Haystack(tokenizer), length=300, depth=0.5)
            print(tokenizer.decode(prompts[0].tokens))

        The depth is the share of the filler before the fact to be found, from 0 (the beginning) to 1 (right before the
        question); a task without a depth ignores it.

        Raises:
            TooShortError: for a length without room for the task's facts, question and answer.
        """


class ExactTask(RetrievalTask):
    """A task whose prompts have exactly the length. A depth only moves the fact to be found."""

    @abstractmethod
    def prompt(self, haystack: Haystack, length: int, depth: float, generator: np.random.Generator) -> Prompt:
        """Return a prompt of a length; the shortest one if it is too short."""

    def prompts(
        self, haystack: Haystack, length: int, depth: float = 0.0, samples: int = 10, seed: int = 0
    ) -> list[Prompt]:
        def of_length(length: int) -> list[Prompt]:
            # The generators are the same at every length and depth, so that rows differ only in these.
            generators = (np.random.default_rng([seed, crc32(self.name.encode()), n]) for n in range(samples))
            return [self.prompt(haystack, length, depth, generator) for generator in generators]

        needed = max(len(prompt.tokens) for prompt in of_length(0))
        if length < needed:
            raise TooShortError(f"lengths must be at least {needed} tokens for {self.name}, got {length}")
        return of_length(length)


class Passkey(ExactTask):
    """... The hills are\nThe pass key is 58213. Remember it.\nfar away ...\nWhat is the pass key? The pass key is 58213

    The words differ from the paper.
    """

    def prompt(self, haystack: Haystack, length: int, depth: float, generator: np.random.Generator) -> Prompt:
        (number,) = generator.choice(10**DIGITS, 1, replace=False)
        key = f"{number:0{DIGITS}}"
        needle = haystack.tokens("\nThe pass key is", f" {key}", ". Remember it.\n")
        question, answer = haystack.question_and_answer("\nWhat is the pass key? The pass key is", [key])
        room = length - len(needle) - len(question) - len(answer)
        filler = stretch(haystack.sentences, max(room, 0), generator)
        tokens = np.concatenate([insert_needles(filler, [(depth, needle)]), question, answer])
        return Prompt(tokens, len(answer), log_choices=DIGITS * math.log(10))


class BenchmarkTask(RetrievalTask):
    """A task of `poslab.evaluation.benchmarks`, whose hay is the filler where it takes text.

    Prompts are at most as long as the length. The values of an answer are in the order in which the question or the
    prompt names them, which decides on a score of tokens.
    """

    def prompts(
        self, haystack: Haystack, length: int, depth: float = 0.0, samples: int = 10, seed: int = 0
    ) -> list[Prompt]:
        at = depth if self.has_depth else None
        made = items(self.name, haystack.tokenizer, length, samples, seed, text=haystack.written, depth=at)
        return [self._prompt(haystack, item) for item in made]

    def _prompt(self, haystack: Haystack, item: dict[str, Any]) -> Prompt:
        outputs = item["outputs"]
        if self.name == "niah_multivalue":
            outputs = sorted(outputs, key=item["input"].index)
        question, answer = haystack.question_and_answer(f"{item['input']} {item['gen_prefix']}", outputs)
        return Prompt(np.concatenate([question, answer]), len(answer), sum(map(log_choices, outputs)))


class CopyingRetrieval(ExactTask):
    """A random string of letters after a line break, and the same again: `"\\nqzmkahv\\nqzmkahv"`.

    The answer is the whole second string, whose beginning the line break marks. A prompt of an odd number of bytes
    starts with two line breaks. The longer the string, the more letters determine the next one: among 500 letters most
    pairs occur more than once, with different successors.
    """

    def prompt(self, haystack: Haystack, length: int, depth: float, generator: np.random.Generator) -> Prompt:
        separator = haystack.tokens("\n")
        # The letter is the last token: tokenizers may put a space before it.
        letters = np.array([haystack.tokens(letter)[-1] for letter in ascii_lowercase])
        num_letters, odd = divmod(max(length - 2 * len(separator), 2), 2)
        string = generator.choice(letters, num_letters)
        tokens = np.concatenate([separator[-1:].repeat(odd), separator, string, separator, string])
        return Prompt(tokens, num_letters, log_choices=num_letters * math.log(len(letters)))


class InductionRetrieval(ExactTask):
    """A sequence of random tokens, and the same again without a mark at its beginning: `17 203 88 5 17 203 88 5`.

    The answer is the second half without its first token, which is unpredictable: `203 88 5`. Guessing costs the
    logarithm of the number of different tokens of the filler, or of the vocabulary without one. A prompt of an odd
    number of tokens starts with one more random token. A token that occurs twice in a half does not determine the next.
    """

    def prompt(self, haystack: Haystack, length: int, depth: float, generator: np.random.Generator) -> Prompt:
        length = max(length, 4)
        half = length // 2
        first = generator.choice(haystack.alphabet, length - half)
        tokens = np.concatenate([first, first[-half:]])
        return Prompt(tokens, half - 1, log_choices=(half - 1) * math.log(len(haystack.alphabet)))


ABOUT = {
    "niah": ("A text hides values of keys, and ends with a question about some of them.", "RULER", "2404.06654"),
    "vt": ("A text hides variables that are set to each other, and asks which have one value.", "RULER", "2404.06654"),
    "json": ("A JSON object of UUIDs, and a question about the value of one key.", "Lost in the Middle", "2307.03172"),
    "mrcr": ("A conversation repeats a request, and ends with a question about one answer.", "MRCR", "2409.12640"),
    "babilong": ("A text hides facts about people, and ends with a question about them.", "BABILong", "2406.10149"),
}
"""About tasks of benchmarks by the first word of their names: one sentence, and the form with its arXiv number."""

EXACT = (
    Passkey(
        "passkey",
        "Sentences that repeat hide one random number, and end with a question about it.",
        "Mohtashami and Jaggi, Landmark Attention (NeurIPS 2023), section 4.2",
    ),
    CopyingRetrieval(
        "copying",
        "A random string of letters fills half of the prompt, and is repeated after a line break.",
        "Jelassi et al., Repeat After Me (ICML 2024), section 2",
        has_depth=False,
    ),
    InductionRetrieval(
        "induction",
        "Random tokens fill half of the prompt, and the other half repeats them.",
        "Olsson et al., In-context Learning and Induction Heads (2022), arXiv 2209.11895",
        has_depth=False,
    ),
)

TASKS: dict[str, RetrievalTask] = {task.name: task for task in EXACT} | {
    name: BenchmarkTask(name, about, f"Form of {form}, arXiv {paper}", has_depth=name in HAVE_DEPTH)
    for name in (*GROUPS["retrieval"], *GROUPS["ruler"], *GROUPS["ruler_text"])
    if name not in ("cwe", "fwe")  # all of the prompt is evidence, and a guess has no known loss
    for about, form, paper in [ABOUT[name.partition("_")[0]]]
}
"""All tasks by name."""

DEFAULT_TASKS = ("passkey", "json_kv", "mrcr_2", "babilong_qa1", "copying", "induction")
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
