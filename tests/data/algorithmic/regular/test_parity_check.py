from poslab.data.algorithmic.regular.parity_check import ParityCheck
from tests.data.algorithmic.solving import assert_solved

NEXT_STATE = {"even": {"0": "even", "1": "odd"}, "odd": {"0": "odd", "1": "even"}}


def solve(string):
    state = "even"
    for symbol in string:
        state = NEXT_STATE[state][symbol]
    return {"even": "0", "odd": "1"}[state]


def test_parity_check_is_an_automaton_of_two_states():
    assert_solved(ParityCheck(), solve)
