from poslab.data.algorithmic.length_generalization.copy import (
    Copy,
    CopyOneWord,
    CopyOneWordTwice,
    CopyTwice,
    ReplaceWord,
)
from tests.data.algorithmic.solving import assert_solved, drawn, many


def replace(string):
    order, of = "".join(string[:1]), string[5:]
    assert order == "replace"
    assert string[2::2][:2] == ("with", "in")
    return [{string[1]: string[3]}[word] for word in of]


def test_copy_copies():
    assert_solved(Copy(), lambda string: " ".join(string).split())


def test_copy_twice_has_a_mark_between():
    assert_solved(CopyTwice(), lambda string: f"{' '.join(string)} [NEXT] {' '.join(string)}".split())


def test_copy_one_word_repeats_one_word():
    assert_solved(CopyOneWord(), lambda string: [string[0] for _ in string])
    assert all(len(set(example.input)) == 1 for _, example in drawn(CopyOneWord()))


def test_copy_one_word_twice_repeats_one_word_twice_as_often():
    assert_solved(CopyOneWordTwice(), lambda string: [string[0] for _ in range(2 * len(string))])
    assert all(len(set(example.input)) == 1 for _, example in drawn(CopyOneWordTwice()))


def test_replace_word_puts_another_word_in_its_place():
    assert_solved(ReplaceWord(), replace)
    for length, example in drawn(ReplaceWord(num_words=2)):
        assert len(example.input) == length + 5
        assert len(set(example.input[5:])) == 1
        assert example.input[1] == example.input[5] != example.output[0]


def test_every_pair_of_words_can_be_replaced():
    pairs = {(example.input[1], example.input[3]) for example in many(ReplaceWord(num_words=4), 3, 300)}
    assert len(pairs) == 4 * 3
