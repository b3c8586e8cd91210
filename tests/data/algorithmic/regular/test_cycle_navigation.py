from collections import deque

import pytest

from poslab.data.algorithmic.regular.cycle_navigation import CycleNavigation
from tests.data.algorithmic.solving import assert_as_often, assert_solved, many


def solver(cycle_length):
    def solve(moves):
        circle = deque(range(cycle_length))
        for move in moves:
            circle.rotate({"left": 1, "stay": 0, "right": -1}[move])
        return (str(circle[0]),)

    return solve


@pytest.mark.parametrize("cycle_length", [5, 2, 3, 12])
def test_cycle_navigation_walks_around_a_circle(cycle_length):
    assert_solved(CycleNavigation(cycle_length), solver(cycle_length))


def test_a_long_walk_ends_everywhere_as_often():
    assert_as_often((example.output[0] for example in many(CycleNavigation(), 60, 2000)), "01234", 340, 460)
