from poslab.data.algorithmic.length_generalization.summation import Summation
from tests.data.algorithmic.solving import assert_solved, drawn, many


def test_summation_is_what_python_makes_of_it():
    assert_solved(Summation(), lambda string: str(eval("".join(string)) % 10))


def test_summation_can_have_other_remainders():
    for modulus in (2, 23):
        task = Summation(modulus)
        for _, example in drawn(task):
            assert example.output == (str(eval("".join(example.input)) % modulus),)
            assert {*example.input, *example.output} <= set(task.symbols)


def test_summation_has_as_many_digits_as_the_length_and_no_zero():
    for length, example in drawn(Summation()):
        assert len(example.input[::2]) == length
        assert set(example.input[1::2]) <= {"+"}
        assert set(example.input[::2]) <= set("123456789")


def test_every_answer_comes_as_often():
    outputs = [example.output[0] for example in many(Summation(), 30, 3000)]
    assert all(240 < outputs.count(str(number)) < 360 for number in range(10))
