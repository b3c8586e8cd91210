from collections import Counter

from poslab.data.algorithmic.recall import SelectiveCopying
from tests.data.algorithmic.solving import assert_solved, drawn, many


def solve(string):
    return " ".join(string).replace(".", "").split()


def test_selective_copying_leaves_out_the_noise():
    assert_solved(SelectiveCopying(), solve)
    assert_solved(SelectiveCopying(num_data=1, num_symbols=2), solve)


def test_selective_copying_has_the_length_in_input_and_the_data_in_output():
    assert [length for length in range(19) if SelectiveCopying().has_length(length)] == [16, 17, 18]
    assert all(
        (len(example.input), len(example.output)) == (length, 16) for length, example in drawn(SelectiveCopying())
    )


def test_data_stand_anywhere_as_often():
    forms = Counter(
        tuple(symbol == "." for symbol in example.input) for example in many(SelectiveCopying(num_data=2), 5, 2000)
    )
    assert len(forms) == 10
    assert all(140 < count < 260 for count in forms.values())
