from poslab.data.algorithmic.context_free.stack_manipulation import StackManipulation
from tests.data.algorithmic.solving import assert_as_often, assert_solved, many


def what_is_left(string):
    """From the end: a symbol is left unless a POP behind it takes it."""
    left, to_pop = [], 0
    for symbol in reversed(string):
        if symbol == "POP":
            to_pop += 1
        elif to_pop:
            to_pop -= 1
        else:
            left.append(symbol[-1])
    return left


def solve(string):
    left = what_is_left(string)
    return [*left, ".", *["0"] * (len(string) - len(left))]


def test_stack_manipulation_gives_what_is_left_from_the_top():
    assert_solved(StackManipulation(), solve)


def test_stack_manipulation_without_padding_ends_at_the_stop():
    assert_solved(StackManipulation(padded=False), lambda string: [*what_is_left(string), "."])


def test_the_stack_comes_first_with_any_height_as_often():
    heights = []
    for example in many(StackManipulation(), 6, 3000):
        heights.append(sum(symbol in ("0", "1") for symbol in example.input))
        assert not {"0", "1"} & set(example.input[heights[-1] :])
    assert_as_often(heights, range(1, 6), 530, 670)


def test_a_length_of_one_has_no_action():
    assert {example.input for example in many(StackManipulation(), 1, 50)} == {("0",), ("1",)}
