"""Claims that every algorithmic task must keep."""

from __future__ import annotations

import importlib
import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import yaml

from poslab.commands.words import CONF
from poslab.data.algorithmic.task import AlgorithmicTask
from tests.data.algorithmic.solving import drawn, many, worked_examples

CHOICES = [yaml.safe_load(file.read_text()) for file in sorted((CONF / "dataset").glob("[!_]*.yaml"))]
PATHS = [choice["task"]["_target_"].rpartition(".") for choice in CHOICES if "task" in choice]
TASKS = {name: getattr(importlib.import_module(module), name) for module, _, name in PATHS}

every_task = pytest.mark.parametrize("name", TASKS)


def task_of(name: str) -> AlgorithmicTask:
    return TASKS[name]()


def length_near(task: AlgorithmicTask, length: int) -> int:
    """The largest length that a task has, from the one given down."""
    return next(shorter for shorter in range(length, 0, -1) if task.has_length(shorter))


@every_task
def test_symbols_are_different_from_each_other_and_one_word_each(name: str) -> None:
    symbols = task_of(name).symbols
    assert len(set(symbols)) == len(symbols) > 1
    assert all(type(symbol) is str and symbol.split() == [symbol] for symbol in symbols)


@every_task
def test_no_example_of_a_length_has_more_tokens_than_the_longest(name: str) -> None:
    task, generator = task_of(name), np.random.default_rng(1)
    if name != "Pcfg":  # whose longest examples no draw finds
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
        ("Passkey", 7, lambda length: 5),
        ("SelectiveCopying", 16, lambda length: 16),
        ("ComputeSqrt", 1, lambda length: (length + 1) // 2),
        *((name, 1, lambda length: length) for name in ("BucketSort", "Copy", "OddsFirst", "ReverseString", "Sorting")),
        ("BinaryMultiplication", 3, lambda length: length),
        ("BinaryAddition", 3, lambda length: length + 1),
        ("StackManipulation", 1, lambda length: length + 1),
    ],
)
def test_an_input_has_the_length_and_an_output_that_which_follows(
    name: str, shortest: int, output_length: Callable[[int], int]
) -> None:
    task = task_of(name)
    assert [length for length in range(shortest + 3) if task.has_length(length)] == [*range(shortest, shortest + 3)]
    for length, example in drawn(task):
        assert (len(example.input), len(example.output)) == (length, output_length(length))


@every_task
def test_examples_are_strings_of_the_symbols(name: str) -> None:
    task = task_of(name)
    symbols = set(task.symbols)
    for _, example in drawn(task):
        assert example.input and example.output
        assert type(example.input) is type(example.output) is tuple
        assert all(type(symbol) is str for symbol in example.input + example.output)
        assert {*example.input, *example.output} <= symbols


@pytest.mark.parametrize("name", [name for name in TASKS if len(task_of(name).symbols) < 100])
def test_every_symbol_comes_where_there_are_not_too_many_to_meet(name: str) -> None:
    task = task_of(name)
    met = {symbol for _, example in drawn(task) for symbol in example.input + example.output}
    assert met == set(task.symbols)


@every_task
def test_equal_seeds_give_equal_examples_whatever_else_draws(name: str) -> None:
    task = task_of(name)
    length = length_near(task, 40)
    first = [task.example(length, generator) for generator in [np.random.default_rng(5)] for _ in range(4)]
    np.random.seed(1)
    random.seed(1)
    np.random.random(3)
    again = [TASKS[name]().example(length, generator) for generator in [np.random.default_rng(5)] for _ in range(4)]
    assert first == again


@every_task
def test_two_seeds_and_two_draws_of_one_differ(name: str) -> None:
    task = task_of(name)
    length = length_near(task, 40)
    generators = [np.random.default_rng(seed) for seed in range(8)]
    # One word that repeats is the same for two seeds in a hundred.
    assert len({task.example(length, generator) for generator in generators}) >= 6
    assert len(set(many(task, length, 8))) >= 6


@every_task
@pytest.mark.parametrize("length", [500, 1000])
def test_examples_can_be_long(name: str, length: int) -> None:
    task = task_of(name)
    length = length_near(task, length)
    if name not in ("Lego", "Scan"):  # as many as there are names, and as the longest command has actions
        assert length >= 499
    example = task.example(length, np.random.default_rng(0))
    assert {*example.input, *example.output} <= set(task.symbols)


@every_task
def test_no_task_has_a_length_below_one(name: str) -> None:
    assert not any(task_of(name).has_length(length) for length in (0, -1))


@every_task
def test_tasks_are_equal_to_their_copies_and_can_be_sent_to_workers(name: str) -> None:
    task = task_of(name)
    many(task, length_near(task, 40), 1)
    copy = pickle.loads(pickle.dumps(task))
    assert copy == task == TASKS[name]()
    assert many(copy, length_near(task, 40), 2) == many(task, length_near(task, 40), 2)


@every_task
def test_docstrings_have_a_worked_example_a_length_and_a_source(name: str) -> None:
    task = task_of(name)
    for example in worked_examples(task):
        assert {*example.input, *example.output} <= set(task.symbols)
    text = type(task).__doc__
    assert "`length` is" in text
    assert "Source:" in text or "All else is as in" in text


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("CycleNavigation", {"cycle_length": 1}, "cycle_length must be an integer of at least 2, got 1"),
        ("CycleNavigation", {"cycle_length": 2.5}, "cycle_length must be an integer of at least 2, got 2.5"),
        ("ModularArithmetic", {"modulus": 1}, "modulus must be an integer of at least 2, got 1"),
        ("ModularArithmetic", {"modulus": True}, "modulus must be an integer of at least 2, got True"),
        ("ModularArithmetic", {"operators": ()}, "operators must be one or more of + - *, each once, got ()"),
        ("ModularArithmetic", {"operators": "/"}, "operators must be one or more of + - *, each once, got '/'"),
        ("ModularArithmeticBrackets", {"modulus": 0}, "modulus must be an integer of at least 2, got 0"),
        (
            "ModularArithmeticBrackets",
            {"operators": "++"},
            "operators must be one or more of + - *, each once, got '++'",
        ),
        ("SolveEquation", {"modulus": 1}, "modulus must be an integer of at least 2, got 1"),
        ("ReverseString", {"num_symbols": 1}, "num_symbols must be an integer of at least 2, got 1"),
        ("DuplicateString", {"num_symbols": 1}, "num_symbols must be an integer of at least 2, got 1"),
        ("DuplicateString", {"num_copies": 0}, "num_copies must be a positive integer, got 0"),
        ("OddsFirst", {"num_symbols": "2"}, "num_symbols must be an integer of at least 2, got '2'"),
        ("BucketSort", {"num_symbols": None}, "num_symbols must be an integer of at least 2, got None"),
        ("Copy", {"num_words": 1}, "num_words must be an integer of at least 2, got 1"),
        ("ReverseThenCopy", {"num_words": 1}, "num_words must be an integer of at least 2, got 1"),
        ("Addition", {"least_digits": 0}, "least_digits must be a positive integer, got 0"),
        ("PolynomialEvaluation", {"modulus": 1}, "modulus must be an integer of at least 2, got 1"),
        ("Summation", {"modulus": 1}, "modulus must be an integer of at least 2, got 1"),
        ("Sorting", {"num_symbols": 63}, "num_symbols must be an integer from 2 to 62, got 63"),
        ("SortingNumbers", {"least": -1}, "least must be an integer of at least 0, got -1"),
        ("SortingNumbers", {"most": 9}, "most must be an integer of at least 10, got 9"),
        ("Lego", {"num_names": 1}, "num_names must be an integer of at least 2, got 1"),
        ("Pcfg", {"binary_weight": 0.0}, "binary_weight must be above 0, got 0.0"),
        ("Pcfg", {"longest_output": 9}, "longest_output must be an integer of at least 10, got 9"),
        ("Passkey", {"digits": 0}, "digits must be a positive integer, got 0"),
        ("MultiKeyRetrieval", {"num_pairs": 65}, "num_pairs must be an integer from 1 to 64, got 65"),
        ("MultiKeyRetrieval", {"num_keys": 0}, "num_keys must be a positive integer, got 0"),
        ("MultiKeyRetrieval", {"num_values": 1}, "num_values must be an integer of at least 2, got 1"),
        ("MultiKeyRetrieval", {"num_fillers": 0}, "num_fillers must be a positive integer, got 0"),
        ("Induction", {"num_symbols": 1}, "num_symbols must be an integer of at least 2, got 1"),
        ("Induction", {"answer_length": 0}, "answer_length must be a positive integer, got 0"),
        ("SelectiveCopying", {"num_data": 0}, "num_data must be a positive integer, got 0"),
        ("SelectiveCopying", {"num_symbols": 1}, "num_symbols must be an integer of at least 2, got 1"),
        ("MultiQueryRecall", {"num_values": 7}, "num_pairs must be an integer from 1 to 7, got 8"),
        ("MultiQueryRecall", {"power": 0.0}, "power must be above 0 and at most 1, got 0.0"),
    ],
)
def test_an_argument_out_of_its_range_is_named(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        TASKS[name](**arguments)
    assert str(raised.value) == message
