from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from poslab.data.algorithmic.recall.flip_flop import FlipFlop
from tests.data.algorithmic.solving import assert_solved, drawn, many


def solve(string):
    """For each read, look for the last write before it."""
    for place in range(0, len(string), 2):
        if string[place] == "r":
            before = range(place - 2, -1, -2)
            yield next(string[earlier + 1] for earlier in before if string[earlier] == "w")


@pytest.mark.parametrize("p_ignore", [0.8, 0.98, 0.1, 0, 1])
def test_a_read_gives_the_bit_that_was_written_last(p_ignore):
    assert_solved(FlipFlop(p_ignore=p_ignore), solve)


def test_a_string_has_instructions_and_bits_in_turn_with_a_write_first_and_a_read_last():
    task = FlipFlop()
    assert [length for length in range(11) if task.has_length(length)] == [4, 6, 8, 10]
    for length, example in drawn(task):
        instructions, bits = example.input[::2], example.input[1::2]
        assert len(example.input) == length and instructions[0] == "w" and instructions[-1] == "r"
        assert all((bit == "__") == (instruction == "r") for instruction, bit in zip(instructions, bits, strict=True))
        assert len(example.output) == instructions.count("r") and {*instructions} <= {*"wri"}


@pytest.mark.parametrize("p_ignore", [0.8, 0.98, 0.1])
def test_ignores_have_their_probability_and_writes_and_reads_share_the_rest(p_ignore):
    examples = many(FlipFlop(p_ignore=p_ignore), 512, 200)
    counts = Counter(instruction for example in examples for instruction in example.input[2:-2:2])
    assert counts.total() == 254 * 200
    for instruction, expected in {"i": p_ignore, "w": (1 - p_ignore) / 2, "r": (1 - p_ignore) / 2}.items():
        assert counts[instruction] / counts.total() == pytest.approx(expected, abs=0.008)


def test_written_and_ignored_bits_are_equally_likely_and_independent():
    strings = [np.array(example.input).reshape(-1, 2) for example in many(FlipFlop(), 512, 200)]
    pairs = Counter(map(tuple, np.concatenate(strings).tolist()))
    for instruction in "wi":
        zeros, ones = pairs[instruction, "0"], pairs[instruction, "1"]
        assert zeros / (zeros + ones) == pytest.approx(0.5, abs=0.025)
    neighbours = Counter(
        first == second
        for string in strings
        for first, second in pairwise(string[:, 1].tolist())
        if "__" not in (first, second)
    )
    assert neighbours[True] / neighbours.total() == pytest.approx(0.5, abs=0.02)
