"""Functions of strings within functions (PCFG)."""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from string import ascii_uppercase
from typing import Annotated

import numpy as np

from poslab.arguments import Range
from poslab.data.algorithmic.strings import draw
from poslab.data.algorithmic.task import AlgorithmicTask, Example

String = tuple[str, ...]

UNARY: dict[str, Callable[[String], String]] = {
    "copy": lambda x: x,
    "reverse": lambda x: x[::-1],
    "shift": lambda x: x[1:] + x[:1],
    "echo": lambda x: x + x[-1:],
    "swap_first_last": lambda x: x[-1:] + x[1:-1] + x[:1],
    "repeat": lambda x: x + x,
}
BINARY: dict[str, Callable[[String, String], String]] = {
    "append": lambda x, y: x + y,
    "prepend": lambda x, y: y + x,
    "remove_first": lambda x, y: y,
    "remove_second": lambda x, y: x,
}
SHORTEST, LONGEST = 2, 5


class Pcfg(AlgorithmicTask):
    """The value of nested functions of one or two strings, which come before their arguments.

        echo append reverse A1 B2 C3 , D4 E5  ->  C3 B2 A1 D4 E5 E5
        remove_first A1 B2 , swap_first_last C3 D4 E5  ->  E5 D4 C3

    copy, reverse, shift (the first to the end), echo (the last once more), swap_first_last and repeat (twice) take one
    string; append, prepend (the second before the first), remove_first and remove_second take two, a comma between.

    `length` is the number of functions, at least 1. A string has 2 to 5 of 520 symbols, A1 to Z20, all numbers and all
    symbols equally likely. Functions and strings that make one longer than `longest_output`, also on the way, are drawn
    anew, since repeat within repeat within repeat has no bound. Both papers train on up to 8 functions and test on 9
    and more. The text of the second one is "Solve: repeat A1 B2" and, after a separator, "A1 B2 A1 B2".

    Functions nest as in the sentences of a probabilistic grammar that have `length` functions. There, a function is
    binary with one probability, and an argument a string rather than a function with another. A tree with one more
    binary function in place of a unary one is P(binary) P(string) / P(unary) times as likely, which is all that matters
    among trees of as many functions: `binary_weight`. The authors' script has 0.25 * 0.75 / 0.75 = 0.25. Their data has
    more binary functions, since it was chosen to be as long and deep as English sentences: 47.5 % in 29 sentences of
    nine functions, which 0.37 gives. Other effects of that choice are not modelled, nor that their sentences end at 300
    characters.

    Args:
        binary_weight: above 0; the odds of a tree with one more binary function in place of a unary one.
        longest_output: symbols, at least 10; a short one leaves little choice for many functions.

    Source: Hupkes et al., "Compositionality Decomposed" (JAIR 2020), section 3, and the authors' repository
    MathijsMul/pcfg-set; as one of ten tasks, Kazemnejad et al. (NeurIPS 2023), table 1.
    """

    letters = tuple([f"{letter}{number}" for letter in ascii_uppercase for number in range(1, 21)])
    """The symbols of strings."""
    symbols = (*letters, *UNARY, *BINARY, ",")

    binary_weight: Annotated[float, Range(above=0)] = 0.37
    longest_output: Annotated[int, Range(at_least=2 * LONGEST)] = 1000

    def example(self, length: int, generator: np.random.Generator) -> Example:
        arities = draw_tree(length, self.binary_weight, generator)
        while True:
            parts = self._parts(arities, generator)
            output = self._value(parts)
            if output is not None:
                return Example(_written(parts, arities), output)

    def _parts(self, arities: list[int], generator: np.random.Generator) -> list[str | String]:
        """Draw a function or string for every node of a tree, in the order of the text."""
        num_strings = arities.count(0)
        sizes = generator.integers(SHORTEST, LONGEST, size=num_strings, endpoint=True).tolist()
        letters = iter(draw(self.letters, sum(sizes), generator))
        drawn: list[Iterator[str | String]] = [
            iter([tuple(islice(letters, size)) for size in sizes]),
            iter(draw(tuple(UNARY), arities.count(1), generator)),
            iter(draw(tuple(BINARY), arities.count(2), generator)),
        ]
        return [next(drawn[arity]) for arity in arities]

    def _value(self, parts: list[str | String]) -> String | None:
        """Return the value of the functions, or None if it, or one on the way, is too long."""
        values: list[String] = []
        for part in reversed(parts):  # arguments before their functions
            if isinstance(part, tuple):
                values.append(part)
            elif part in UNARY:
                values.append(UNARY[part](values.pop()))
            else:
                values.append(BINARY[part](values.pop(), values.pop()))
            if len(values[-1]) > self.longest_output:
                return None
        return values[0]


def draw_tree(num_functions: int, binary_weight: float, generator: np.random.Generator) -> list[int]:
    """Draw a tree of `num_functions` functions; return the number of arguments of each node, 0 for a string.

    Nodes are in the order of the text, a function before its arguments; `binary_weight` is as of `Pcfg`.
    """
    num_binary = int(np.searchsorted(_binary_at_most(num_functions, binary_weight), generator.random()))
    arities = np.repeat([1, 2, 0], [num_functions - num_binary, num_binary, num_binary + 1])
    generator.shuffle(arities)
    # The cycle lemma: of all places to begin such a circle of nodes, exactly one gives a tree, that behind the place
    # where the most arguments are missing.
    return np.roll(arities, -1 - int(np.argmin(np.cumsum(arities - 1)))).tolist()


@lru_cache(maxsize=1024)
def _binary_at_most(num_functions: int, binary_weight: float) -> np.ndarray:
    """Return the probabilities that a tree has at most 0, 1, ... binary functions.

    (n + k)! / ((n - k)! k! (k + 1)!) trees have k binary functions among n.
    """
    log_weights = np.array(
        [
            k * math.log(binary_weight)
            + math.lgamma(num_functions + k + 1)
            - math.lgamma(num_functions - k + 1)
            - math.lgamma(k + 1)
            - math.lgamma(k + 2)
            for k in range(num_functions + 1)
        ]
    )
    cumulated = np.cumsum(np.exp(log_weights - log_weights.max()))
    probabilities: np.ndarray = cumulated / cumulated[-1]
    return probabilities


def _written(parts: list[str | String], arities: list[int]) -> tuple[str, ...]:
    words: list[str] = []
    missing: list[int] = []  # arguments, of the functions that are open
    for part, arity in zip(parts, arities, strict=True):
        if isinstance(part, str):
            words.append(part)
            missing.append(arity)
            continue
        words += part
        while missing:
            missing[-1] -= 1
            if missing[-1]:
                words.append(",")
                break
            missing.pop()
    return tuple(words)
