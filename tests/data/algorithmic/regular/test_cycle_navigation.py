from collections import Counter, deque

import pytest

from poslab.data.algorithmic.regular.cycle_navigation import CycleNavigation
from tests.data.algorithmic.solving import assert_solved, drawn, many


def solver(cycle_length):
    def solve(moves):
        circle = deque(range(cycle_length))
        for move in moves:
            circle.rotate({"left": 1, "stay": 0, "right": -1}[move])
        return (str(circle[0]),)

    return solve


def test_cycle_navigation_walks_around_a_circle():
    assert_solved(CycleNavigation(), solver(5))


@pytest.mark.parametrize("cycle_length", [2, 3, 12])
def test_cycle_navigation_walks_around_circles_of_other_lengths(cycle_length):
    task, solve = CycleNavigation(cycle_length), solver(cycle_length)
    assert all(solve(example.input) == example.output for _, example in drawn(task))


def test_a_long_walk_ends_everywhere_as_often():
    ends = Counter(example.output for example in many(CycleNavigation(), 60, 2000))
    assert len(ends) == 5
    assert all(340 < count < 460 for count in ends.values())
