"""Compare a task with a solver that was written apart from it."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator

import numpy as np

from poslab.data.algorithmic.examples import AlgorithmicTask, Example

Solver = Callable[[tuple[str, ...]], Iterable[str]]


def drawn(
    task: AlgorithmicTask, lengths: Iterable[int] = range(1, 61), seeds: int = 8
) -> Iterator[tuple[int, Example]]:
    """Examples of every one of the lengths that the task has, with the length; at least one."""
    had = [length for length in lengths if task.has_length(length)]
    assert had, f"{type(task).__name__} has none of these lengths"
    for length in had:
        for seed in range(seeds):
            yield length, task.example(length, np.random.default_rng([length, seed]))


def many(task: AlgorithmicTask, length: int, count: int) -> list[Example]:
    """Examples of one length."""
    generator = np.random.default_rng(0)
    return [task.example(length, generator) for _ in range(count)]


def assert_solved(task: AlgorithmicTask, solve: Solver, lengths: Iterable[int] = range(1, 61)) -> None:
    """The solver gives the output of every example, also of those in the docstring, which has the default arguments."""
    examples = worked_examples(task) if task == type(task)() else []
    examples += [example for _, example in drawn(task, lengths)]
    assert len(examples) > 8
    symbols = set(task.symbols)
    for example in examples:
        assert tuple(solve(example.input)) == example.output, example
        assert {*example.input, *example.output} <= symbols


def assert_as_often(outcomes: Iterable[Hashable], among: Collection[Hashable], above: float, below: float) -> None:
    """Each of these outcomes comes, and no other, and how often lies between two bounds."""
    counts = Counter(outcomes)
    assert set(counts) == set(among)
    assert all(above < count < below for count in counts.values()), counts


def worked_examples(task: AlgorithmicTask) -> list[Example]:
    """The lines of a docstring with an input, an arrow, an output, and maybe a remark behind some spaces."""
    examples = []
    for line in inspect.getdoc(type(task)).splitlines():
        if found := re.fullmatch(r"    (\S.*?) +->  (.+?)(   +\S.*)?", line):
            examples.append(Example(tuple(found[1].split()), tuple(found[2].split())))
    assert examples, f"no worked example in the docstring of {type(task).__name__}"
    return examples
