from poslab.data.algorithmic.context_sensitive.missing_duplicate import MissingDuplicate
from tests.data.algorithmic.solving import assert_as_often, assert_solved, drawn, many


def solve(string):
    text = "".join(string).removesuffix(".")
    half = len(text) // 2
    guesses = {guess: text.replace("_", guess) for guess in "01"}
    (missing,) = [guess for guess, full in guesses.items() if full[:half] == full[half:]]
    return missing


def test_missing_duplicate_has_one_answer_and_asks_for_it():
    assert_solved(MissingDuplicate(), solve)


def test_missing_duplicate_has_one_gap_and_a_point_where_its_length_is_odd():
    for length, example in drawn(MissingDuplicate()):
        assert example.input.count("_") == 1
        assert example.input.count(".") == length % 2 == (example.input[-1] == ".")


def test_any_symbol_is_missing_as_often_and_both_answers_come_as_often():
    examples = many(MissingDuplicate(), 8, 2400)
    assert_as_often((example.input.index("_") for example in examples), range(8), 230, 370)
    assert_as_often((example.output[0] for example in examples), "01", 1080, 1320)
