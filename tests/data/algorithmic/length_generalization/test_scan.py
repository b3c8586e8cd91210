import re
from collections import Counter

import pytest

from poslab.data.algorithmic.length_generalization.scan import Scan, commands, interpret
from tests.data.algorithmic.solving import assert_solved, many

SENTENCE = re.compile(
    r"(?P<verb>walk|look|run|jump|turn)(?: (?P<way>opposite|around))?"
    r"(?: (?P<side>left|right))?(?: (?P<times>twice|thrice))?"
)


def solve(command):
    """By pattern: a sentence is a verb, a way, a side and a number of times."""
    text = " ".join(command)
    if " after " in text:
        first, second = text.split(" after ")
        text = f"{second} and {first}"
    return " ".join(actions(sentence) for sentence in text.split(" and ")).split()


def actions(sentence):
    verb, way, side, times = SENTENCE.fullmatch(sentence).group("verb", "way", "side", "times")
    assert side or (not way and verb != "turn")
    turn = f"I_TURN_{side.upper()} " if side else ""
    action = "" if verb == "turn" else f"I_{verb.upper()} "
    once = {"around": 4 * (turn + action), "opposite": 2 * turn + action, None: turn + action}[way]
    return once * {"twice": 2, "thrice": 3, None: 1}[times]


def test_scan_does_what_commands_say():
    assert_solved(Scan(), solve)


def test_there_are_20910_commands_and_they_mean_what_an_interpreter_of_another_kind_says():
    assert len(commands()) == len(set(commands())) == 20_910
    assert all([*interpret(command)] == solve(command) for command in commands())


@pytest.mark.parametrize(
    ("command", "meaning"),
    [
        ("jump", "JUMP"),
        ("jump left", "LTURN JUMP"),
        ("jump around right", "RTURN JUMP RTURN JUMP RTURN JUMP RTURN JUMP"),
        ("turn left twice", "LTURN LTURN"),
        ("jump thrice", "JUMP JUMP JUMP"),
        ("jump opposite left and walk thrice", "LTURN LTURN JUMP WALK WALK WALK"),
        ("jump opposite left after walk around left", "LTURN WALK LTURN WALK LTURN WALK LTURN WALK LTURN LTURN JUMP"),
        ("turn opposite left", "LTURN LTURN"),
        ("turn around right", "RTURN RTURN RTURN RTURN"),
        ("look opposite left after run", "RUN LTURN LTURN LOOK"),
        ("walk right and look twice", "RTURN WALK LOOK LOOK"),
    ],
)
def test_commands_of_the_paper_mean_what_it_says(command, meaning):
    names = {"LTURN": "I_TURN_LEFT", "RTURN": "I_TURN_RIGHT"}
    assert tuple(command.split()) in commands()
    assert [*interpret(command.split())] == [names.get(word, f"I_{word}") for word in meaning.split()]


def test_commands_are_as_many_below_and_above_22_actions_as_in_the_length_split():
    lengths = Counter(len(interpret(command)) for command in commands())
    assert sum(count for length, count in lengths.items() if length <= 22) == 16_990
    assert sum(count for length, count in lengths.items() if length >= 24) == 3_920


def test_scan_has_the_lengths_of_its_commands_up_to_48_actions():
    lengths = [length for length in range(60) if Scan().has_length(length)]
    assert lengths == sorted({len(interpret(command)) for command in commands()})
    assert (lengths[0], lengths[-1]) == (1, 48)
    assert not Scan().has_length(23)
    for length in lengths:
        assert all(len(example.output) == length for example in many(Scan(), length, 5))


def test_every_command_of_a_length_comes():
    of_two = {command for command in commands() if len(interpret(command)) == 2}
    assert {example.input for example in many(Scan(), 2, 3000)} == of_two
