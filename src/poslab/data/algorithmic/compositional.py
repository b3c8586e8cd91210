"""Compositional tasks: commands (SCAN), and functions of strings within functions (PCFG)."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import islice, product
from string import ascii_uppercase
from typing import Annotated

import numpy as np

from poslab.arguments import Range
from poslab.data.algorithmic.examples import AlgorithmicTask, Example, draw

ACTIONS = {"walk": "I_WALK", "look": "I_LOOK", "run": "I_RUN", "jump": "I_JUMP"}
TURNS = {"left": "I_TURN_LEFT", "right": "I_TURN_RIGHT"}
TIMES = {"twice": 2, "thrice": 3}
JOINING = ("and", "after")

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


class Scan(AlgorithmicTask):
    """The actions of a command.

        jump opposite left after walk twice  ->  I_WALK I_WALK I_TURN_LEFT I_TURN_LEFT I_JUMP

    `length` is the number of actions, which are the output; commands have up to nine words. All commands of a length
    are equally likely. There are 20,910 commands, with 1 to 48 actions; some lengths between have none.

    Lake and Baroni train on commands of up to 22 actions and test on commands of 24 to 48; Kazemnejad et al. train on
    up to 25. Their text is "Solve: jump twice" and, after a separator, "Jump Jump".

    Source: Lake and Baroni, "Generalization without Systematicity" (ICML 2018), section 2 and figures 6 and 7; as one
    of ten tasks, Kazemnejad et al. (NeurIPS 2023), table 1.
    """

    symbols = (
        *(*ACTIONS, "turn", *TURNS, "opposite", "around", *TIMES, *JOINING),
        *(*ACTIONS.values(), *TURNS.values()),
    )

    def has_length(self, length: int) -> bool:
        return length in _examples()

    def example(self, length: int, generator: np.random.Generator) -> Example:
        examples = _examples()[length]
        return examples[int(generator.integers(len(examples)))]

    def most_tokens(self, length: int) -> int:
        return max(example.num_tokens for example in _examples()[length])


def commands() -> list[tuple[str, ...]]:
    """Return all 20,910 commands, each as a tuple of words.

    C -> S | S and S | S after S
    S -> V | V twice | V thrice
    V -> U | [U or turn] left | [U or turn] opposite left | [U or turn] around left, and the same with right
    U -> walk | look | run | jump
    """
    verbs: list[tuple[str, ...]] = [(word,) for word in ACTIONS]
    ways: list[tuple[str, ...]] = [(), ("opposite",), ("around",)]
    verbs += [(word, *way, side) for word, way, side in product([*ACTIONS, "turn"], ways, TURNS)]
    often: list[tuple[str, ...]] = [(), *((times,) for times in TIMES)]
    sentences = [verb + times for verb, times in product(verbs, often)]
    joined = [(*first, word, *second) for first, word, second in product(sentences, JOINING, sentences)]
    return sentences + joined


def interpret(command: Sequence[str]) -> tuple[str, ...]:
    """Return the actions of a command, given as its words."""
    for word in JOINING:
        if word in command:
            position = command.index(word)
            first, second = interpret(command[:position]), interpret(command[position + 1 :])
            return second + first if word == "after" else first + second
    *verb, last = command
    if last in TIMES:
        return interpret(verb) * TIMES[last]
    if last not in TURNS:
        return (ACTIONS[last],)
    turn = (TURNS[last],)
    # "turn" has no separate action: to turn opposite is to turn twice.
    action = () if verb[0] == "turn" else (ACTIONS[verb[0]],)
    if "around" in verb:
        return (turn + action) * 4
    return turn * 2 + action if "opposite" in verb else turn + action


@cache
def _examples() -> dict[int, list[Example]]:
    """Return all commands with their actions, by the number of actions."""
    by_length: dict[int, list[Example]] = {}
    for command in commands():
        actions = interpret(command)
        by_length.setdefault(len(actions), []).append(Example(command, actions))
    return by_length


class Pcfg(AlgorithmicTask):
    """The value of nested functions of one or two strings, which come before their arguments.

        echo append reverse A1 B2 C3 , D4 E5  ->  C3 B2 A1 D4 E5 E5
        remove_first A1 B2 , swap_first_last C3 D4 E5  ->  E5 D4 C3

    copy, reverse, shift (the first to the end), echo (the last once more), swap_first_last and repeat (twice) take one
    string; append, prepend (the second before the first), remove_first and remove_second take two, a comma between.

    `length` is the number of functions, at least 1. A string has 2 to 5 of 520 symbols, A1 to Z20, all numbers and all
    symbols equally likely. Functions and strings that make one longer than `longest_output`, also on the way, are drawn
    again, since repeat within repeat within repeat has no bound. Both papers train on up to 8 functions and test on 9
    and more. The text of the second one is "Solve: repeat A1 B2" and, after a separator, "A1 B2 A1 B2".

    Functions nest as in the sentences of a probabilistic grammar that have `length` functions. There, a function is
    binary with one probability, and an argument a string rather than a function with another. A tree with one more
    binary function instead of a unary one is P(binary) P(string) / P(unary) times as likely, which is all that matters
    among trees of as many functions: `binary_weight`. The authors' script has 0.25 * 0.75 / 0.75 = 0.25. Their data has
    more binary functions, since it was chosen to be as long and deep as English sentences: 47.5% in 29 sentences of
    nine functions, which 0.37 gives. Other effects of that choice are not modelled, nor that their sentences end at 300
    characters.

    Args:
        binary_weight: above 0; the odds of a tree with one more binary function instead of a unary one.
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
    """Draw a tree of functions; return the arity of each node, 0 for a string, a function before its arguments."""
    num_binary = int(np.searchsorted(_binary_at_most(num_functions, binary_weight), generator.random()))
    arities = np.repeat([1, 2, 0], [num_functions - num_binary, num_binary, num_binary + 1])
    generator.shuffle(arities)
    # The cycle lemma: exactly one first node of such a circle gives a tree, the node after the one where the most
    # arguments are missing.
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
    return cumulated / cumulated[-1]


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
