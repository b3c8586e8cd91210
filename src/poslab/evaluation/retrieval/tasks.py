"""Retrieval tasks: pass keys, needles, several keys or values, variables, copying and induction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from string import ascii_lowercase, ascii_uppercase
from typing import ClassVar

import numpy as np

from poslab.evaluation.retrieval.prompts import (
    KEYS,
    Haystack,
    Needles,
    NeedleTask,
    Prompt,
    RetrievalTask,
    in_order_from,
    numbers,
)

SEPARATOR = "\n"


@dataclass(frozen=True)
class PasskeyRetrieval(NeedleTask):
    """A random number among sentences that repeat.

        ... The wind is cold. The hills are
        The pass key is 58213. Remember it.
        far away. We walk, and we rest ...
        What is the pass key? The pass key is 58213

    The answer is `58213`. Guessing costs ln 10 = 2.303 nats per digit. The words are not those of the paper.

    Args:
        digits: of the number, from 1 to 9.

    Source: Mohtashami and Jaggi, "Landmark Attention" (NeurIPS 2023), section 4.2.
    """

    name: ClassVar[str] = "passkey"
    about: ClassVar[str] = "Sentences that repeat hide one random number, and end with a question about it."
    source: ClassVar[str] = "Mohtashami and Jaggi, Landmark Attention (NeurIPS 2023), section 4.2"
    in_sentences: ClassVar[bool] = True
    limits: ClassVar = {"digits": (1, 9)}

    digits: int = 5

    def needles(self, depth: float, generator: np.random.Generator) -> Needles:
        (number,) = numbers(1, self.digits, generator)
        needle = ("\nThe pass key is", f" {number}", ". Remember it.\n")
        question = "\nWhat is the pass key? The pass key is"
        return Needles([(depth, needle)], question, [number], self.digits * math.log(10))


@dataclass(frozen=True)
class Needle(NeedleTask):
    """A fact in real text, the filler of the caller.

        ... and returns the length of the
        The number of lamps is 58213.
        list, which may be empty ...
        What is the number of lamps? The number of lamps is 58213

    The answer is `58213`. Guessing costs ln 10 = 2.303 nats per digit.

    Args:
        digits: of the number, from 1 to 9.

    Source: Hsieh et al., "RULER" (COLM 2024), section 3.1, single needle.
    """

    name: ClassVar[str] = "needle"
    about: ClassVar[str] = "A text holds one fact with a random number, and ends with a question about it."
    source: ClassVar[str] = "Hsieh et al., RULER (COLM 2024), section 3.1"
    limits: ClassVar = {"digits": (1, 9)}

    digits: int = 5

    def needles(self, depth: float, generator: np.random.Generator) -> Needles:
        key = str(generator.choice(KEYS))
        (number,) = numbers(1, self.digits, generator)
        return Needles([(depth, number_line(key, number))], number_question(key), [number], self.digits * math.log(10))


def number_line(key: str, number: str) -> tuple[str, ...]:
    """Return the pieces of a line with the number of a thing."""
    return "\nThe number of", f" {key}", " is", f" {number}", ".\n"


def number_question(key: str) -> str:
    """Return the question about the number of a thing, and the beginning of its answer."""
    return f"\nWhat is the number of {key}? The number of {key} is"


@dataclass(frozen=True)
class MultiKey(NeedleTask):
    """Several facts of the same form, and a question about one of them.

        ... The number of lamps is 58213. ... The number of boats is 20417. ... The number of drums is 77120. ...
        What is the number of boats? The number of boats is 20417

    The answer is `20417`. Guessing costs ln 10 = 2.303 nats per digit; copying any number of the text is right in 1 of
    `keys` prompts. The fact in question is at the depth, the others are at random positions.

    Args:
        keys: number of facts, from 2 to 12.
        digits: of each number, from 2 to 9.

    Source: Hsieh et al., "RULER" (COLM 2024), section 3.1, multi-keys.
    """

    name: ClassVar[str] = "multi_key"
    about: ClassVar[str] = "A text holds several facts of the same form, and ends with a question about one of them."
    source: ClassVar[str] = "Hsieh et al., RULER (COLM 2024), section 3.1, multi-keys"
    limits: ClassVar = {"keys": (2, len(KEYS)), "digits": (2, 9)}

    keys: int = 4
    digits: int = 5

    def needles(self, depth: float, generator: np.random.Generator) -> Needles:
        keys = [str(key) for key in generator.choice(KEYS, self.keys, replace=False)]
        values = numbers(self.keys, self.digits, generator)
        # Random depths are below 1, and equal depths keep their order: the fact in question is first at 0, last at 1.
        depths = [depth, *generator.random(self.keys - 1).tolist()]
        needles = list(zip(depths, map(number_line, keys, values), strict=True))
        return Needles(needles, number_question(keys[0]), [values[0]], self.digits * math.log(10))


@dataclass(frozen=True)
class MultiValue(NeedleTask):
    """Several numbers of the same thing, and a question about all of them in the order of the text.

        ... A number of lamps is 58213. ... A number of lamps is 20417. ... A number of lamps is 77120. ...
        What are the numbers of lamps, in order? The numbers of lamps are 58213 20417 77120

    The answer is `58213 20417 77120`. Guessing costs about 3 * 5 ln 10 = 34.5 nats over the whole answer: 2.03 for each
    of its 17 bytes, two of which are spaces. The first number is at the depth, the others at random positions after it.
    The paper accepts any order; a fixed one makes the answer unique.

    Args:
        values: number of numbers, from 2 to 10.
        digits: of each, from 2 to 9.

    Source: Hsieh et al., "RULER" (COLM 2024), section 3.1, multi-values.
    """

    name: ClassVar[str] = "multi_value"
    about: ClassVar[str] = (
        "A text holds several numbers of one thing, and ends with a question about all of them, in order."
    )
    source: ClassVar[str] = "Hsieh et al., RULER (COLM 2024), section 3.1, multi-values"
    limits: ClassVar = {"values": (2, 10), "digits": (2, 9)}

    values: int = 3
    digits: int = 5

    def needles(self, depth: float, generator: np.random.Generator) -> Needles:
        key = str(generator.choice(KEYS))
        values = numbers(self.values, self.digits, generator)
        lines = [("\nA number of", f" {key}", " is", f" {value}", ".\n") for value in values]
        needles = list(zip(in_order_from(depth, self.values, generator), lines, strict=True))
        question = f"\nWhat are the numbers of {key}, in order? The numbers of {key} are"
        return Needles(needles, question, values, math.log(math.perm(10**self.digits, self.values)))


NAMES = np.array([*map("".join, product(ascii_uppercase, repeat=3))])


@dataclass(frozen=True)
class VariableTracking(NeedleTask):
    """Variables set to one another, and a question about all with one value, in the order of the text.

        ... Let QXA = 71. ... Let BOR = 18. ... Let LUM = QXA. ... Let FEP = BOR. ... Let TIK = LUM. ... Let WYN = FEP.
        Which variables are 71, in order? The variables are QXA LUM TIK

    The answer is `QXA LUM TIK`. Guessing costs about 3 * 3 ln 26 = 29.3 nats over the whole answer: 2.67 for each of
    its 11 bytes, two of which are spaces. The variable set to the value is at the depth, those that follow from it are
    at random positions after it, and the other chains anywhere.

    Args:
        hops: variables that follow from the first one of a chain, from 1 to 10.
        chains: number of values, from 1 to 10; the question is about one of them.

    Source: Hsieh et al., "RULER" (COLM 2024), section 3.2, which has one chain of 4 hops by default.
    """

    name: ClassVar[str] = "variable_tracking"
    about: ClassVar[str] = "Variables are set to a value or to each other; the question is which ones have one value."
    source: ClassVar[str] = "Hsieh et al., RULER (COLM 2024), section 3.2"
    limits: ClassVar = {"hops": (1, 10), "chains": (1, 10)}

    hops: int = 2
    chains: int = 2

    def needles(self, depth: float, generator: np.random.Generator) -> Needles:
        length = self.hops + 1
        chains = generator.choice(NAMES, (self.chains, length), replace=False).tolist()
        values = numbers(self.chains, 2, generator)
        depths = [depth, *generator.random(self.chains - 1).tolist()]
        needles = [
            (position, ("\nLet", f" {name}", " =", f" {value}", ".\n"))
            for first, value, chain in zip(depths, values, chains, strict=True)
            for position, name, value in zip(
                in_order_from(first, length, generator), chain, [value, *chain], strict=False
            )
        ]
        question = f"\nWhich variables are {values[0]}, in order? The variables are"
        return Needles(needles, question, chains[0], math.log(math.perm(len(NAMES), length)))


@dataclass(frozen=True)
class CopyingRetrieval(RetrievalTask):
    """A random string of letters after a line break, and the same again.

        "\\nqzmkahv\\nqzmkahv"

    The answer is the whole second string, whose beginning the line break marks. Guessing costs ln 26 = 3.258 nats per
    letter. A prompt of an odd number of bytes begins with two line breaks.

    The longer the string, the more letters determine the next one: among 500 letters most pairs occur more than once,
    with different successors.

    Source: Jelassi et al., "Repeat After Me" (ICML 2024), section 2, where the task is defined.
    """

    name: ClassVar[str] = "copying"
    has_depth: ClassVar[bool] = False
    about: ClassVar[str] = "A random string of letters fills half of the prompt, and is repeated after a line break."
    source: ClassVar[str] = "Jelassi et al., Repeat After Me (ICML 2024), section 2"

    def min_length(self, haystack: Haystack, generator: np.random.Generator) -> int:
        return 2 * len(haystack.tokens(SEPARATOR)) + 2

    def prompt(self, haystack: Haystack, length: int, depth: float, generator: np.random.Generator) -> Prompt:
        separator = haystack.tokens(SEPARATOR)
        # The letter is the last token: tokenizers may put a space before it.
        letters = np.array([haystack.tokens(letter)[-1] for letter in ascii_lowercase])
        num_letters, odd = divmod(length - 2 * len(separator), 2)
        assert num_letters >= 1, "a length below min_length"
        string = generator.choice(letters, num_letters)
        tokens = np.concatenate([separator[-1:].repeat(odd), separator, string, separator, string])
        return Prompt(tokens, num_letters, log_choices=num_letters * math.log(len(letters)))


@dataclass(frozen=True)
class InductionRetrieval(RetrievalTask):
    """A sequence of random tokens, and the same again without a mark at its beginning.

        tokens: 17 203 88 5 17 203 88 5

    The answer is the second half without its first token, which is unpredictable: `203 88 5`. Guessing costs ln A nats
    per token, where A is the number of different tokens in the filler, or in the vocabulary without one. A prompt of an
    odd number of tokens begins with one more random token.

    If a token occurs more than once in a half, it does not determine the next one; this is more frequent in longer
    halves and smaller vocabularies.

    The paper's own in-context learning score is another metric: the loss at a late token (the 500th) of ordinary text
    minus that at an early one (the 50th). It finds induction heads on sequences like these.

    Source: Olsson et al., "In-context Learning and Induction Heads" (2022), arXiv 2209.11895, "Key concepts".
    """

    name: ClassVar[str] = "induction"
    has_depth: ClassVar[bool] = False
    about: ClassVar[str] = "Random tokens fill half of the prompt, and the other half repeats them."
    source: ClassVar[str] = "Olsson et al., In-context Learning and Induction Heads (2022), arXiv 2209.11895"

    def min_length(self, haystack: Haystack, generator: np.random.Generator) -> int:
        return 4

    def prompt(self, haystack: Haystack, length: int, depth: float, generator: np.random.Generator) -> Prompt:
        half = length // 2
        assert half >= 2, "a length below min_length"
        first = generator.choice(haystack.alphabet, length - half)
        tokens = np.concatenate([first, first[-half:]])
        return Prompt(tokens, half - 1, log_choices=(half - 1) * math.log(len(haystack.alphabet)))


TASKS: dict[str, RetrievalTask] = {
    task.name: task
    for task in (
        *(PasskeyRetrieval(), Needle(), MultiKey(), MultiValue()),
        *(VariableTracking(), CopyingRetrieval(), InductionRetrieval()),
    )
}
"""All tasks by name, with their default hyperparameters."""
