"""Copying of a random string of letters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from string import ascii_lowercase
from typing import ClassVar

import numpy as np

from poslab.evaluation.retrieval.haystack import Haystack
from poslab.evaluation.retrieval.task import Prompt, Task

SEPARATOR = "\n"


@dataclass(frozen=True)
class Copying(Task):
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

    def least_length(self, haystack: Haystack, generator: np.random.Generator) -> int:
        return 2 * len(haystack.tokens(SEPARATOR)) + 2

    def prompt(self, haystack: Haystack, length: int, depth: float, generator: np.random.Generator) -> Prompt:
        separator = haystack.tokens(SEPARATOR)
        # The letter is the last token: tokenizers may put a space before it.
        letters = np.array([haystack.tokens(letter)[-1] for letter in ascii_lowercase])
        num_letters, odd = divmod(length - 2 * len(separator), 2)
        assert num_letters >= 1, "a length below least_length"
        string = generator.choice(letters, num_letters)
        tokens = np.concatenate([separator[-1:].repeat(odd), separator, string, separator, string])
        return Prompt(tokens, num_letters, log_choices=num_letters * math.log(len(letters)))
