from collections import Counter

import pytest

from poslab.data.algorithmic.recall.counting import Counting
from tests.data.algorithmic.solving import assert_solved, drawn, many


def statements(string):
    """The program as a person reads it: what each statement does, and to which variable."""
    text = " ".join(string[:-2]).replace("pass;", "pass ;").replace("++;", "++ ;")
    return [statement.split() for statement in text.split(" ;") if statement]


def solve(string):
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
    assert_solved(task, solve)


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
