import re
from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest

from poslab.data.algorithmic.recall import (
    Counting,
    FlipFlop,
    Induction,
    MultiKeyRetrieval,
    MultiQueryRecall,
    Passkey,
    SelectiveCopying,
)
from tests.data.algorithmic.solving import assert_as_often, assert_solved, drawn, many


def statements(string):
    """The program as a person reads it: what each statement does, and to which variable."""
    text = " ".join(string[:-2]).replace("pass;", "pass ;").replace("++;", "++ ;")
    return [statement.split() for statement in text.split(" ;") if statement]


def solve_counting(string):
    """For the variable in question, count the increments behind its last assignment."""
    program, asked = statements(string), string[-1]
    last = max(place for place, statement in enumerate(program) if statement == [asked, "=", "0"])
    value = 0
    for statement in program[last:]:
        if statement == [asked, "++"]:
            value += 1
    return (str(value),)


@pytest.mark.parametrize("task", [Counting(), Counting(num_variables=1), Counting(num_variables=5, largest=2)])
def test_counting_is_the_number_of_increments_behind_the_last_assignment(task):
    assert_solved(task, solve_counting)


@pytest.mark.parametrize("length", [6, 7, 40, 300])
def test_an_input_has_its_length_in_symbols_and_is_a_program_with_a_question(length):
    task = Counting()
    assert [n for n in range(9) if task.has_length(n)] == [6, 7, 8]
    for example in many(task, length, 50):
        assert len(example.input) == length and len(example.output) == 1
        assert example.input[-2] == "print" and example.input[-1] in "abc"
        forms = (["pass"], *([name, *end] for name in "abc" for end in (["++"], ["=", "0"])))
        assert all(statement in forms for statement in statements(example.input))


def test_only_variables_with_a_value_are_incremented_and_none_beyond_the_largest():
    for _, example in drawn(Counting(largest=2), range(40, 400, 40)):
        values: dict[str, int] = {}
        for name, *does in statements(example.input):
            if does == ["=", "0"]:
                values[name] = 0
            elif does:
                values[name] += 1
            assert all(value <= 2 for value in values.values())


def test_statements_and_variables_are_as_frequent_as_in_the_authors_code():
    examples = many(Counting(largest=1000), 2000, 60)
    counts = Counter(statement[-1] for example in examples for statement in statements(example.input))
    whole = counts.total()
    assert counts["pass"] / whole == pytest.approx(50 / 58, abs=0.005)
    assert counts["++"] / whole == pytest.approx(7 / 58, abs=0.005)
    assert counts["0"] / whole == pytest.approx(1 / 58, abs=0.002)
    changed = Counter(name for example in examples for name, *does in statements(example.input) if does)
    assert all(0.28 < changed[name] / changed.total() < 0.39 for name in "abc")
    asked = Counter(example.input[-1] for example in many(Counting(), 200, 3000))
    assert all(880 < asked[name] < 1120 for name in "abc")


def solve_flip_flop(string):
    """For each read, look for the last write before it."""
    for place in range(0, len(string), 2):
        if string[place] == "r":
            before = range(place - 2, -1, -2)
            yield next(string[earlier + 1] for earlier in before if string[earlier] == "w")


@pytest.mark.parametrize("p_ignore", [0.8, 0.98, 0.1, 0, 1])
def test_a_read_gives_the_bit_that_was_written_last(p_ignore):
    assert_solved(FlipFlop(p_ignore=p_ignore), solve_flip_flop)


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


def solver(answer_length):
    def solve(string):
        found = re.fullmatch(rf"(?:\d+ )*=> ((?:\d+ ){{{answer_length}}})(?:\d+ )*=>", " ".join(string))
        return found[1].split()

    return solve


def test_induction_repeats_what_followed_the_special_symbol():
    assert_solved(Induction(), solver(1))


def test_induction_can_ask_for_more_symbols():
    task = Induction(num_symbols=2, answer_length=4)
    assert [length for length in range(9) if task.has_length(length)] == [6, 7, 8]
    assert_solved(task, solver(4))


def test_induction_has_16_symbols_as_in_the_paper():
    assert len(Induction().symbols) == 16


def test_the_special_symbol_comes_first_anywhere_as_often():
    places = (example.input.index("=>") for example in many(Induction(), 10, 1800))
    assert_as_often(places, range(8), 165, 285)


def pairs(string):
    return [pair for pair in pairwise(string[:-1]) if pair[0][0] == "k"]


def solve_multi_key_retrieval(string):
    return (dict(pairs(string))[string[-1]],)


@pytest.mark.parametrize(
    "task", [MultiKeyRetrieval(), MultiKeyRetrieval(1, 1, 2, 1), MultiKeyRetrieval(num_pairs=10, num_keys=10)]
)
def test_multi_key_retrieval_is_the_value_behind_the_key(task):
    assert_solved(task, solve_multi_key_retrieval)


def test_multi_key_retrieval_has_its_pairs_among_fillers():
    for length, example in drawn(MultiKeyRetrieval()):
        found = pairs(example.input)
        assert len(found) == len({key for key, _ in found}) == 4
        assert all(value[0] == "v" for _, value in found)
        assert sum(symbol[0] == "f" for symbol in example.input) == length - 9


def test_pairs_stand_anywhere_as_often_and_any_of_them_is_asked_for():
    examples = many(MultiKeyRetrieval(num_pairs=2), 8, 3000)
    forms = ("".join(symbol[0] for symbol in example.input) for example in examples)
    among = {"".join(parts) + "k" for parts in permutations(["kv", "kv", "f", "f", "f"])}
    assert_as_often(forms, among, 220, 380)
    asked = ([key for key, _ in pairs(example.input)].index(example.input[-1]) for example in examples)
    assert_as_often(asked, (0, 1), 1350, 1650)


def solve_multi_query_recall(string):
    values, answers = {}, []
    key = None
    for symbol in string:
        if symbol[0] == "k" and symbol in values:
            answers.append(values[symbol])
        elif symbol[0] == "k":
            key = symbol
        elif symbol[0] == "v":
            values[key] = symbol
    return answers


@pytest.mark.parametrize("task", [MultiQueryRecall(), MultiQueryRecall(2, 2, 2), MultiQueryRecall(4, 9, 30, power=1.0)])
def test_multi_query_recall_gives_the_values_of_the_keys_that_come_again(task):
    assert_solved(task, solve_multi_query_recall)


def test_multi_query_recall_has_its_pairs_first_and_queries_at_even_places():
    task = MultiQueryRecall(num_pairs=3)
    assert [length for length in range(15) if task.has_length(length)] == [12, 13, 14]
    for length, example in drawn(task):
        assert (len(example.input), len(example.output)) == (length, 3)
        keys = example.input[:6:2]
        assert len(set(keys)) == len(set(example.input[1:6:2])) == 3
        assert sorted(symbol for symbol in example.input[6::2] if symbol != ".") == sorted(keys)
        assert set(example.input[7::2]) <= {"."}


def test_the_vocabulary_of_the_paper_has_8192_symbols():
    assert len(MultiQueryRecall().symbols) == 8192


def test_queries_follow_a_power_law_in_their_distance_from_the_pairs():
    task = MultiQueryRecall(num_pairs=1, power=0.01)
    gaps = Counter((example.input.index(example.input[0], 2) - 2) // 2 for example in many(task, 18, 4000))
    weights = [place**-0.99 for place in range(1, 9)]
    for gap, weight in enumerate(weights):
        expected = 4000 * weight / sum(weights)
        assert abs(gaps[gap] - expected) < 5 * expected**0.5


def test_a_power_of_one_makes_every_distance_as_likely():
    task = MultiQueryRecall(num_pairs=1, power=1.0)
    gaps = ((example.input.index(example.input[0], 2) - 2) // 2 for example in many(task, 18, 4000))
    assert_as_often(gaps, range(8), 400, 600)


def solve_passkey(string):
    return [symbol for symbol in string if symbol.isdigit()]


def test_passkey_is_the_only_number_of_the_text():
    assert_solved(Passkey(), solve_passkey)
    assert_solved(Passkey(digits=1), solve_passkey)


def test_passkey_stands_behind_the_mark_that_asks_for_it():
    for length, example in drawn(Passkey(digits=3)):
        assert len(example.input) == length
        assert len(example.output) == 3
        assert example.input[-1] == "passkey"
        behind = example.input.index("passkey") + 1
        assert example.input[behind : behind + 3] == example.output


def test_passkey_stands_anywhere_as_often():
    places = (example.input.index("passkey") for example in many(Passkey(), 12, 1800))
    assert_as_often(places, range(6), 230, 370)


def test_what_is_around_the_passkey_is_always_the_same():
    for example in many(Passkey(), 40, 20):
        first = example.input.index("passkey")
        behind = example.input[first + 6 : -1]
        longer, shorter = sorted([example.input[:first], behind], key=len, reverse=True)
        assert longer[: len(shorter)] == shorter


def solve_selective_copying(string):
    return " ".join(string).replace(".", "").split()


def test_selective_copying_leaves_out_the_noise():
    assert_solved(SelectiveCopying(), solve_selective_copying)
    assert_solved(SelectiveCopying(num_data=1, num_symbols=2), solve_selective_copying)


def test_data_stand_anywhere_as_often():
    examples = many(SelectiveCopying(num_data=2), 5, 2000)
    forms = (tuple(symbol == "." for symbol in example.input) for example in examples)
    assert_as_often(forms, set(permutations([False] * 2 + [True] * 3)), 140, 260)
