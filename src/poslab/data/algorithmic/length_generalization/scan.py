"""Commands and their actions (SCAN)."""

from collections.abc import Sequence
from functools import cache
from itertools import product

import numpy as np

from poslab.data.algorithmic.task import AlgorithmicTask, Example

ACTIONS = {"walk": "I_WALK", "look": "I_LOOK", "run": "I_RUN", "jump": "I_JUMP"}
TURNS = {"left": "I_TURN_LEFT", "right": "I_TURN_RIGHT"}
TIMES = {"twice": 2, "thrice": 3}
JOINING = ("and", "after")


class Scan(AlgorithmicTask):
    """The actions of a command.

        jump opposite left after walk twice  ->  I_WALK I_WALK I_TURN_LEFT I_TURN_LEFT I_JUMP

    `length` is the number of actions, which are the output; commands have up to nine words. All commands of a length
    are equally likely. There are 20,910 commands, with 1 to 48 actions; some lengths between have none.

    Lake and Baroni train on commands of up to 22 actions and test on those of 24 to 48; Kazemnejad et al. train on up
    to 25. Their text is "Solve: jump twice" and, after a separator, "Jump Jump".

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
            place = command.index(word)
            first, second = interpret(command[:place]), interpret(command[place + 1 :])
            return second + first if word == "after" else first + second
    *verb, last = command
    if last in TIMES:
        return interpret(verb) * TIMES[last]
    if last not in TURNS:
        return (ACTIONS[last],)
    turn = (TURNS[last],)
    # "turn" has no action of its own: to turn opposite is to turn twice.
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
