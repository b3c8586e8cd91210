import pytest

from poslab.data.algorithmic.length_generalization.lego import Lego
from tests.data.algorithmic.solving import assert_as_often, assert_solved, drawn, many


def clauses(string):
    return [clause.split() for clause in " ".join(string).split(" ? ")[0].split(" , ")]


def solve(string):
    """Write down all that can be known, again and again, until the answer is."""
    asked, known = string[-1], {}
    while asked not in known:
        for name, equals, *value in clauses(string):
            assert equals == "="
            if len(value) == 1:
                known[name] = int(value[0])
            elif value[1] in known:
                known[name] = known[value[1]] * int(value[0] + "1")
    return (f"{known[asked]:+d}",)


@pytest.mark.parametrize("task", [Lego(), Lego(shuffled=True), Lego(num_names=60, shuffled=True)])
def test_lego_follows_from_its_clauses(task):
    assert_solved(task, solve)


def test_lego_has_as_many_variables_as_the_length_each_set_once():
    assert [length for length in range(30) if Lego().has_length(length)] == [*range(2, 27)]
    for length, example in drawn(Lego(shuffled=True)):
        assert len({clause[0] for clause in clauses(example.input)}) == len(clauses(example.input)) == length
        assert len(example.output) == 1


def test_lego_follows_the_chain_unless_it_is_shuffled():
    for length, example in drawn(Lego()):
        chain = clauses(example.input)
        assert len(chain[0]) == 3
        assert all(chain[n][3] == chain[n - 1][0] for n in range(1, length))
    assert len({tuple(map(len, clauses(example.input))) for example in many(Lego(shuffled=True), 6, 100)}) == 6


@pytest.mark.parametrize(("length", "asked"), [(2, {2}), (3, {3}), (4, {3, 4}), (5, {4, 5}), (8, {5, 6, 7, 8})])
def test_lego_asks_for_the_second_half_of_the_chain(length, asked):
    examples = many(Lego(), length, 600)
    places = ([clause[0] for clause in clauses(example.input)].index(example.input[-1]) + 1 for example in examples)
    assert_as_often(places, asked, 0.7 * 600 / len(asked), 1.3 * 600 / len(asked))


def test_names_go_on_behind_the_letters():
    assert Lego(num_names=54).names[25:28] == ("z", "a1", "b1")
    assert Lego(num_names=54).names[-2:] == ("a2", "b2")
    assert Lego(num_names=500).has_length(500)
