"""Retrieval tasks: facts hidden in a text, a question, and its answer, in prompts of an exact number of tokens.

Dimension letters: B prompts, T tokens of a prompt, A tokens of the longest answer, V vocabulary.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain, product
from operator import itemgetter
from string import ascii_lowercase, ascii_uppercase
from typing import NamedTuple
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from torch import nn

from poslab.data.tokenizers import Tokenizer
from poslab.evaluation.scores.tokens import evaluating, loss_and_correct

SENTENCES = "The path goes on. The wind is cold. The hills are far away. We walk, and we rest, and we walk again. "

KEYS = (
    *("apples", "boats", "candles", "drums", "feathers", "gloves"),
    *("hammers", "islands", "kettles", "lamps", "mirrors", "needles"),
)
"""Things with a number in the needles."""

DIGITS, NUM_KEYS, NUM_VALUES, CHAINS, HOPS = 5, 4, 3, 2, 2
"""Digits of a number, facts of `multi_key`, numbers of `multi_value`, and chains and hops of `variable_tracking`."""

TOKENS_AT_ONCE = 8192
"""Tokens of a batch, which has at least one prompt."""

VARIABLES = np.array([*map("".join, product(ascii_uppercase, repeat=3))])


class Haystack:
    """A tokenizer and text in its tokens.

    Texts are encoded piece by piece, so that a word has the same tokens everywhere. Prompts are joined from tokens, so
    that their length is exact.

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
    """A maker of prompts. The same generator makes the same prompt; a depth only moves the fact to be found.

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
    def prompt(self, haystack: Haystack, length: int, depth: float, generator: np.random.Generator) -> Prompt:
        """Return a prompt of a length in tokens, the answer included; the shortest one if it is too short.

        The depth is the share of the filler before the fact to be found, from 0 (the beginning) to 1 (right before the
        question); a task without a depth ignores it.
        """


class Needles(NamedTuple):
    """Depth and pieces of text of each hidden fact, a question, the words of its answer, and `Prompt.log_choices`."""

    needles: Sequence[tuple[float, Sequence[str]]]
    question: str
    answer: Sequence[str]
    log_choices: float = DIGITS * math.log(10)


@dataclass(frozen=True)
class NeedleTask(RetrievalTask):
    """A task of hidden facts: `needles` returns the facts of one prompt, the first of them at a depth.

    Facts are hidden `in_sentences` that repeat even if the caller has a filler.
    """

    needles: Facts
    in_sentences: bool = False

    def prompt(self, haystack: Haystack, length: int, depth: float, generator: np.random.Generator) -> Prompt:
        facts = self.needles(depth, generator)
        needles = [(depth, haystack.tokens(*pieces)) for depth, pieces in facts.needles]
        question, answer = haystack.question_and_answer(facts.question, facts.answer)
        room = length - sum(len(needle) for _, needle in needles) - len(question) - len(answer)
        filler = stretch(haystack.sentences if self.in_sentences else haystack.text, max(room, 0), generator)
        tokens = np.concatenate([insert_needles(filler, needles), question, answer])
        return Prompt(tokens, len(answer), facts.log_choices)


TASKS: dict[str, RetrievalTask] = {}
"""All tasks by name."""

RULER = "Hsieh et al., RULER (COLM 2024), section"

Facts = Callable[[float, np.random.Generator], Needles]


def needle_task(name: str, about: str, source: str, in_sentences: bool = False) -> Callable[[Facts], Facts]:
    """Add a function that returns facts as a `NeedleTask`, whose arguments these are."""

    def add(needles: Facts) -> Facts:
        TASKS[name] = NeedleTask(name, about, source, needles, in_sentences)
        return needles

    return add


def _numbers(count: int, digits: int, generator: np.random.Generator) -> list[str]:
    """Return different numbers with this many digits, which may start with zeros."""
    drawn = generator.choice(10**digits, count, replace=False)
    return [f"{number:0{digits}}" for number in drawn]


def _in_order_from(depth: float, count: int, generator: np.random.Generator) -> list[float]:
    """Return ascending depths: the given one, and random ones after it."""
    later = np.sort(generator.random(count - 1))
    return [depth, *(depth + (1 - depth) * later).tolist()]


@needle_task(
    "passkey",
    "Sentences that repeat hide one random number, and end with a question about it.",
    "Mohtashami and Jaggi, Landmark Attention (NeurIPS 2023), section 4.2",
    in_sentences=True,
)
def _passkey(depth: float, generator: np.random.Generator) -> Needles:
    """... The hills are\nThe pass key is 58213. Remember it.\nfar away ...\nWhat is the pass key? The pass key is 58213

    The words differ from the paper.
    """
    (number,) = _numbers(1, DIGITS, generator)
    needle = ("\nThe pass key is", f" {number}", ". Remember it.\n")
    return Needles([(depth, needle)], "\nWhat is the pass key? The pass key is", [number])


@needle_task("needle", "A text has one fact with a random number, and ends with a question about it.", f"{RULER} 3.1")
def _needle(depth: float, generator: np.random.Generator) -> Needles:
    """... The number of lamps is 58213. ... What is the number of lamps? The number of lamps is 58213"""
    key = str(generator.choice(KEYS))
    (number,) = _numbers(1, DIGITS, generator)
    return Needles([(depth, _number_line(key, number))], _number_question(key), [number])


def _number_line(key: str, number: str) -> tuple[str, ...]:
    return "\nThe number of", f" {key}", " is", f" {number}", ".\n"


def _number_question(key: str) -> str:
    return f"\nWhat is the number of {key}? The number of {key} is"


@needle_task(
    "multi_key",
    "A text has several facts of the same form, and ends with a question about one of them.",
    f"{RULER} 3.1, multi-keys",
)
def _multi_key(depth: float, generator: np.random.Generator) -> Needles:
    """... The number of lamps is 58213. ... The number of boats is 20417. ... What is the number of boats? ... 20417

    Copying any number of the text is right in 1 of `NUM_KEYS` prompts. The other facts are at random positions.
    """
    keys = [str(key) for key in generator.choice(KEYS, NUM_KEYS, replace=False)]
    values = _numbers(NUM_KEYS, DIGITS, generator)
    # Random depths are below 1, and equal depths keep their order: the fact in question is first at 0, last at 1.
    depths = [depth, *generator.random(NUM_KEYS - 1).tolist()]
    needles = list(zip(depths, map(_number_line, keys, values), strict=True))
    return Needles(needles, _number_question(keys[0]), [values[0]])


@needle_task(
    "multi_value",
    "A text has several numbers of one thing, and ends with a question about all of them, in order.",
    f"{RULER} 3.1, multi-values",
)
def _multi_value(depth: float, generator: np.random.Generator) -> Needles:
    """... A number of lamps is 58213. ... A number of lamps is 20417. ... The numbers of lamps are 58213 20417

    The paper accepts any order; a fixed one makes the answer unique.
    """
    key = str(generator.choice(KEYS))
    values = _numbers(NUM_VALUES, DIGITS, generator)
    lines = [("\nA number of", f" {key}", " is", f" {value}", ".\n") for value in values]
    needles = list(zip(_in_order_from(depth, NUM_VALUES, generator), lines, strict=True))
    question = f"\nWhat are the numbers of {key}, in order? The numbers of {key} are"
    return Needles(needles, question, values, math.log(math.perm(10**DIGITS, NUM_VALUES)))


@needle_task(
    "variable_tracking",
    "Variables are set to a value or to each other; the question is which ones have one value.",
    f"{RULER} 3.2",
)
def _variable_tracking(depth: float, generator: np.random.Generator) -> Needles:
    """... Let QXA = 71. ... Let BOR = 18. ... Let LUM = QXA. ... Which variables are 71, in order? ... QXA LUM

    The variable set to the value is at the depth, those that follow from it are at random positions after it, and the
    other chains anywhere.
    """
    length = HOPS + 1
    chains = generator.choice(VARIABLES, (CHAINS, length), replace=False).tolist()
    values = _numbers(CHAINS, 2, generator)
    depths = [depth, *generator.random(CHAINS - 1).tolist()]
    needles = [
        (position, ("\nLet", f" {name}", " =", f" {value}", ".\n"))
        for first, value, chain in zip(depths, values, chains, strict=True)
        for position, name, value in zip(_in_order_from(first, length, generator), chain, [value, *chain], strict=False)
    ]
    question = f"\nWhich variables are {values[0]}, in order? The variables are"
    return Needles(needles, question, chains[0], math.log(math.perm(len(VARIABLES), length)))


class CopyingRetrieval(RetrievalTask):
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


class InductionRetrieval(RetrievalTask):
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


TASKS |= {
    "copying": CopyingRetrieval(
        "copying",
        "A random string of letters fills half of the prompt, and is repeated after a line break.",
        "Jelassi et al., Repeat After Me (ICML 2024), section 2",
        has_depth=False,
    ),
    "induction": InductionRetrieval(
        "induction",
        "Random tokens fill half of the prompt, and the other half repeats them.",
        "Olsson et al., In-context Learning and Induction Heads (2022), arXiv 2209.11895",
        has_depth=False,
    ),
}


def make_prompts(
    task: RetrievalTask, haystack: Haystack, length: int, depth: float, samples: int = 10, seed: int = 0
) -> list[Prompt]:
    """Return the prompts of one row of `retrieval`.

        prompts = make_prompts(TASKS["passkey"], Haystack(tokenizer), length=300, depth=0.5)
        print(tokenizer.decode(prompts[0].tokens))

    Raises:
        ValueError: for a length without room for the task's facts, question and answer.
    """
    require_room(task, haystack, length, samples, seed)
    return [task.prompt(haystack, length, depth, _generator(task, seed, number)) for number in range(samples)]


def _generator(task: RetrievalTask, seed: int, number: int) -> np.random.Generator:
    """Return the generator of one prompt, the same at every length and depth, so that rows differ only in these."""
    return np.random.default_rng([seed, crc32(task.name.encode()), number])


def require_room(task: RetrievalTask, haystack: Haystack, length: int, samples: int, seed: int) -> None:
    """Raise ValueError for a length without room for the facts, the question and the answer of every prompt."""
    shortest = (task.prompt(haystack, 0, 0.0, _generator(task, seed, number)) for number in range(samples))
    needed = max(len(prompt.tokens) for prompt in shortest)
    if length < needed:
        raise ValueError(f"lengths must be at least {needed} tokens for {task.name}, got {length}")


def score_answers(model: nn.Module, prompts: Sequence[Prompt], tokens_at_once: int = TOKENS_AT_ONCE) -> pd.DataFrame:
    """Return whether a causal model predicts the answers of prompts, and its loss on them.

    Every token of an answer is predicted from the right tokens before it. If all of them are the most probable ones,
    greedy decoding gives the answer, except under an encoding whose positions depend on the current length (dynamic
    NTK, randomized positions), which here reads the beginning of an answer as part of the whole prompt.

    The model takes tokens (B, T) and returns logits (B, T, V); a `Model` makes only the logits of answers.

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
    batches = []
    with torch.no_grad(), evaluating(model):
        for of_batch in (prompts[start : start + size] for start in range(0, len(prompts), size)):
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
            batches.append(pd.DataFrame({**columns, "loss": loss_B}))
    return pd.concat(batches, ignore_index=True)
