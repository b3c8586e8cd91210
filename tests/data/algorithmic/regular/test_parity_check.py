from poslab.data.algorithmic.regular.parity_check import ParityCheck
from tests.data.algorithmic.solving import assert_solved, many

NEXT_STATE = {"even": {"0": "even", "1": "odd"}, "odd": {"0": "odd", "1": "even"}}


def solve(string):
    state = "even"
    for symbol in string:
        state = NEXT_STATE[state][symbol]
    return {"even": "0", "odd": "1"}[state]


def test_parity_check_is_an_automaton_of_two_states():
    assert_solved(ParityCheck(), solve)


def test_parity_is_even_half_of_the_time():
    assert 0.45 < sum(example.output == ("0",) for example in many(ParityCheck(), 12, 2000)) / 2000 < 0.55
