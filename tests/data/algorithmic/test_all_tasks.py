"""Claims that every algorithmic task must keep."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from importlib import import_module
from inspect import isabstract
from pkgutil import iter_modules
from typing import Annotated, Any

import numpy as np
import pytest

import poslab.data.algorithmic
from poslab.arguments import Range
from poslab.data.algorithmic.chomsky import StringTask
from poslab.data.algorithmic.compositional import Pcfg, Scan
from poslab.data.algorithmic.examples import AlgorithmicTask
from poslab.data.algorithmic.length_generalization import Lego
from tests.data.algorithmic.solving import drawn, many, worked_examples

FOLDER = poslab.data.algorithmic
MODULES = [import_module(f"{FOLDER.__name__}.{module.name}") for module in iter_modules(FOLDER.__path__)]
TASKS = {
    name: task
    for module in MODULES
    for name, task in vars(module).items()
    if isinstance(task, type)
    and issubclass(task, AlgorithmicTask)
    and not isabstract(task)
    and task.__module__ == module.__name__
}


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> AlgorithmicTask:
    return TASKS[request.param]()


def length_near(task: AlgorithmicTask, length: int) -> int:
    """The largest length that a task has, from the one given down."""
    return next(shorter for shorter in range(length, 0, -1) if task.has_length(shorter))


def test_symbols_are_different_from_each_other_and_one_word_each(task: AlgorithmicTask) -> None:
    symbols = task.symbols
    assert len(set(symbols)) == len(symbols) > 1
    assert all(type(symbol) is str and symbol.split() == [symbol] for symbol in symbols)


def test_no_example_of_a_length_has_more_tokens_than_the_longest(task: AlgorithmicTask) -> None:
    generator = np.random.default_rng(1)
    if not isinstance(task, Pcfg):  # whose longest examples no draw finds
        for length in filter(task.has_length, (7, 40)):
            drawn_tokens = [task.example(length, generator).num_tokens for _ in range(500)]
            assert max(drawn_tokens) <= task.most_tokens(length) <= max(drawn_tokens) + length


@pytest.mark.parametrize(
    ("name", "shortest", "output_length"),
    [
        *((name, 1, lambda length: 1) for name in ("CycleNavigation", "EvenPairs", "ParityCheck", "Parity")),
        ("ModularArithmeticBrackets", 1, lambda length: 1),
        ("MissingDuplicate", 2, lambda length: 1),
        ("SolveEquation", 3, lambda length: 1),
        ("Induction", 3, lambda length: 1),
        ("MultiKeyRetrieval", 9, lambda length: 1),
        ("Counting", 6, lambda length: 1),
        ("Passkey", 7, lambda length: 5),
        ("SelectiveCopying", 16, lambda length: 16),
        ("ComputeSqrt", 1, lambda length: (length + 1) // 2),
        *((name, 1, lambda length: length) for name in ("BucketSort", "Copy", "CopyOneWord", "OddsFirst", "Reverse")),
        *((name, 1, lambda length: length) for name in ("ReverseString", "Sorting")),
        *((name, 1, lambda length: 2 * length) for name in ("CopyOneWordTwice", "DuplicateString")),
        *((name, 1, lambda length: 2 * length + 1) for name in ("CopyTwice", "ReverseThenCopy", "ReverseTwice")),
        ("BinaryMultiplication", 3, lambda length: length),
        ("BinaryAddition", 3, lambda length: length + 1),
        ("StackManipulation", 1, lambda length: length + 1),
    ],
)
def test_an_input_has_the_length_and_an_output_that_which_follows(
    name: str, shortest: int, output_length: Callable[[int], int]
) -> None:
    task = TASKS[name]()
    assert [length for length in range(shortest + 3) if task.has_length(length)] == [*range(shortest, shortest + 3)]
    for length, example in drawn(task):
        assert (len(example.input), len(example.output)) == (length, output_length(length))


def test_examples_are_strings_of_the_symbols(task: AlgorithmicTask) -> None:
    symbols = set(task.symbols)
    for _, example in drawn(task):
        assert example.input and example.output
        assert type(example.input) is type(example.output) is tuple
        assert all(type(symbol) is str for symbol in example.input + example.output)
        assert {*example.input, *example.output} <= symbols


@pytest.mark.parametrize(
    "task", [kind() for kind in TASKS.values() if len(kind().symbols) < 100], ids=lambda task: type(task).__name__
)
def test_every_symbol_comes_where_there_are_not_too_many_to_meet(task: AlgorithmicTask) -> None:
    examples = [*(example for _, example in drawn(task)), *many(task, length_near(task, 300), 100)]
    assert {symbol for example in examples for symbol in example.input + example.output} == set(task.symbols)


def test_equal_seeds_give_equal_examples_whatever_else_draws(task: AlgorithmicTask) -> None:
    length = length_near(task, 40)
    first = [task.example(length, generator) for generator in [np.random.default_rng(5)] for _ in range(4)]
    np.random.seed(1)
    random.seed(1)
    np.random.random(3)
    again = [type(task)().example(length, generator) for generator in [np.random.default_rng(5)] for _ in range(4)]
    assert first == again


def test_two_seeds_and_two_draws_of_one_differ(task: AlgorithmicTask) -> None:
    length = length_near(task, 40)
    generators = [np.random.default_rng(seed) for seed in range(8)]
    # One word that repeats is the same for two seeds in a hundred.
    assert len({task.example(length, generator) for generator in generators}) >= 6
    assert len(set(many(task, length, 8))) >= 6


@pytest.mark.parametrize("length", [500, 1000])
def test_examples_can_be_long(task: AlgorithmicTask, length: int) -> None:
    length = length_near(task, length)
    if not isinstance(task, Lego | Scan):  # as many as there are names, and as the longest command has actions
        assert length >= 499
    example = task.example(length, np.random.default_rng(0))
    assert {*example.input, *example.output} <= set(task.symbols)


def test_no_task_has_a_length_below_one(task: AlgorithmicTask) -> None:
    assert not any(task.has_length(length) for length in (0, -1))


def test_tasks_are_equal_to_their_copies_and_can_be_sent_to_workers(task: AlgorithmicTask) -> None:
    many(task, length_near(task, 40), 1)
    copy = pickle.loads(pickle.dumps(task))
    assert copy == task == type(task)()
    assert many(copy, length_near(task, 40), 2) == many(task, length_near(task, 40), 2)


def test_docstrings_have_a_worked_example_a_length_and_a_source(task: AlgorithmicTask) -> None:
    for example in worked_examples(task):
        assert {*example.input, *example.output} <= set(task.symbols)
    text = type(task).__doc__
    assert "`length` is" in text
    assert "Source:" in text or "All else is as in" in text


@pytest.mark.parametrize("name", ["BinaryAddition", "BinaryMultiplication", "StackManipulation"])
def test_a_padded_output_has_one_stop(name: str) -> None:
    assert all(example.output.count(TASKS[name].stop) == 1 for _, example in drawn(TASKS[name]()))


@pytest.mark.parametrize(
    ("name", "even"), [("EvenPairs", "0"), ("ParityCheck", "0"), ("Parity", "Yes"), ("Lego", "+1")]
)
def test_either_answer_comes_half_of_the_time(name: str, even: str) -> None:
    assert 0.45 < sum(example.output == (even,) for example in many(TASKS[name](), 12, 2000)) / 2000 < 0.55


@pytest.mark.parametrize(
    ("name", "arguments", "key"),
    [
        ("CycleNavigation", {"cycle_length": 1}, "cycle_length"),
        ("CycleNavigation", {"cycle_length": 2.5}, "cycle_length"),
        ("ModularArithmetic", {"modulus": 1}, "modulus"),
        ("ModularArithmetic", {"modulus": True}, "modulus"),
        ("ModularArithmetic", {"operators": ()}, "operators"),
        ("ModularArithmetic", {"operators": ["/"]}, "operators"),
        ("ModularArithmeticBrackets", {"modulus": 0}, "modulus"),
        ("ModularArithmeticBrackets", {"operators": ["+", "+"]}, "operators"),
        ("SolveEquation", {"modulus": 1}, "modulus"),
        ("ReverseString", {"num_symbols": 1}, "num_symbols"),
        ("DuplicateString", {"num_symbols": 1}, "num_symbols"),
        ("DuplicateString", {"num_copies": 0}, "num_copies"),
        ("OddsFirst", {"num_symbols": "2"}, "num_symbols"),
        ("BucketSort", {"num_symbols": None}, "num_symbols"),
        ("Copy", {"num_words": 1}, "num_words"),
        ("ReverseThenCopy", {"num_words": 1}, "num_words"),
        ("Addition", {"least_digits": 0}, "least_digits"),
        ("PolynomialEvaluation", {"modulus": 1}, "modulus"),
        ("Summation", {"modulus": 1}, "modulus"),
        ("Sorting", {"num_symbols": 63}, "num_symbols"),
        ("SortingNumbers", {"least": -1}, "least"),
        ("SortingNumbers", {"most": 9}, "most"),
        ("Lego", {"num_names": 1}, "num_names"),
        ("Pcfg", {"binary_weight": 0.0}, "binary_weight"),
        ("Pcfg", {"longest_output": 9}, "longest_output"),
        ("Passkey", {"digits": 0}, "digits"),
        ("MultiKeyRetrieval", {"num_pairs": 65}, "num_pairs"),
        ("MultiKeyRetrieval", {"num_keys": 0}, "num_keys"),
        ("MultiKeyRetrieval", {"num_values": 1}, "num_values"),
        ("MultiKeyRetrieval", {"num_fillers": 0}, "num_fillers"),
        ("Induction", {"num_symbols": 1}, "num_symbols"),
        ("Induction", {"answer_length": 0}, "answer_length"),
        ("SelectiveCopying", {"num_data": 0}, "num_data"),
        ("SelectiveCopying", {"num_symbols": 1}, "num_symbols"),
        ("MultiQueryRecall", {"num_values": 7}, "num_pairs"),
        ("Counting", {"num_variables": 27}, "num_variables"),
        ("FlipFlop", {"p_ignore": 1.5}, "p_ignore"),
        ("MultiQueryRecall", {"power": 0.0}, "power"),
    ],
)
def test_an_argument_out_of_its_range_is_named(name: str, arguments: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=rf"^{key} must be .*, got "):
        TASKS[name](**arguments)


def test_a_custom_task_has_both_ends_of_the_range_that_it_declares() -> None:
    class Shift(StringTask):
        by: Annotated[int, Range(at_least=1, at_most=3)] = 1

        def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
            return string[self.by :] + string[: self.by]

    assert Shift(by=3).num_symbols == 2
    with pytest.raises(ValueError, match=r"^by must .*got 4$"):
        Shift(by=4)
