import re
from collections import Counter

import numpy as np
import pytest

from poslab.data.algorithmic.compositional import Pcfg, Scan, commands, draw_tree, interpret
from tests.data.algorithmic.solving import assert_solved, drawn, many

ONE = ("copy", "reverse", "shift", "echo", "swap_first_last", "repeat")
TWO = ("append", "prepend", "remove_first", "remove_second")


def solve_pcfg(words):
    """By recursive descent, from left to right."""
    rest = list(words)

    def value():
        function = rest[0]
        if function in ONE:
            rest.pop(0)
            string = value()
            match function:
                case "copy":
                    return string
                case "reverse":
                    return [*reversed(string)]
                case "shift":
                    return [*string[1:], string[0]]
                case "echo":
                    return [*string, string[-1]]
                case "swap_first_last":
                    string[0], string[-1] = string[-1], string[0]
                    return string
                case "repeat":
                    return 2 * string
        if function in TWO:
            rest.pop(0)
            first = value()
            assert rest.pop(0) == ","
            second = value()
            return {
                "append": [*first, *second],
                "prepend": [*second, *first],
                "remove_first": second,
                "remove_second": first,
            }[function]
        string = []
        while rest and rest[0] not in (*ONE, *TWO, ","):
            string.append(rest.pop(0))
        assert 2 <= len(string) <= 5
        return string

    output = value()
    assert not rest
    return output


def test_pcfg_does_what_its_functions_say():
    assert_solved(Pcfg(), solve_pcfg)


@pytest.mark.parametrize(
    ("words", "output"),
    [
        ("swap_first_last shift P2 O13", "P2 O13"),
        ("echo reverse copy remove_first N8 B15 A7 , J8 V3", "V3 J8 J8"),
        ("append reverse Y2 Z4 V3 , A11 C19", "V3 Z4 Y2 A11 C19"),
        ("prepend swap_first_last shift Z1 X6 Z13 , X4 V3", "X4 V3 Z1 Z13 X6"),
    ],
)
def test_the_solver_agrees_with_the_published_data(words, output):
    assert solve_pcfg(words.split()) == output.split()


def test_pcfg_has_as_many_functions_as_the_length_and_a_comma_for_every_binary_one():
    for length, example in drawn(Pcfg()):
        assert sum(word in (*ONE, *TWO) for word in example.input) == length
        assert sum(word in TWO for word in example.input) == example.input.count(",")


def test_pcfg_ends_where_the_output_would_be_too_long():
    examples = many(Pcfg(longest_output=20), 12, 100)
    assert max(len(example.output) for example in examples) <= 20
    assert all([*example.output] == solve_pcfg(example.input) for example in examples)


def test_pcfg_has_520_letters_and_every_function():
    assert len(Pcfg().letters) == 520
    words = {word for example in many(Pcfg(), 9, 400) for word in example.input}
    assert words == set(Pcfg().symbols)


def trees(num_functions):
    """All trees of so many functions, as how many arguments each node takes."""
    if num_functions == 0:
        return [(0,)]
    unary = [(1, *tree) for tree in trees(num_functions - 1)]
    binary = [
        (2, *first, *second)
        for split in range(num_functions)
        for first in trees(split)
        for second in trees(num_functions - 1 - split)
    ]
    return unary + binary


@pytest.mark.parametrize("weight", [0.37, 2.0])
def test_every_tree_comes_as_often_as_its_binary_functions_make_it(weight):
    weights = {tree: weight ** tree.count(2) for tree in trees(3)}
    assert len(weights) == 22  # large Schröder numbers: 2, 6, 22
    generator = np.random.default_rng(0)
    counts = Counter(tuple(draw_tree(3, weight, generator)) for _ in range(8000))
    assert set(counts) <= set(weights)
    for tree, share in weights.items():
        expected = 8000 * share / sum(weights.values())
        assert abs(counts[tree] - expected) < 5 * expected**0.5


def test_about_475_in_a_thousand_of_nine_functions_are_binary_as_in_the_published_data():
    examples = many(Pcfg(), 9, 600)
    assert 0.45 < sum(example.input.count(",") for example in examples) / (9 * 600) < 0.5


SENTENCE = re.compile(
    r"(?P<verb>walk|look|run|jump|turn)(?: (?P<way>opposite|around))?"
    r"(?: (?P<side>left|right))?(?: (?P<times>twice|thrice))?"
)


def solve_scan(command):
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
    assert_solved(Scan(), solve_scan)


def test_there_are_20910_commands_and_they_mean_what_an_interpreter_of_another_kind_says():
    assert len(commands()) == len(set(commands())) == 20_910
    assert all([*interpret(command)] == solve_scan(command) for command in commands())


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
