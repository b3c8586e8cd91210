import re
from decimal import Decimal, localcontext
from functools import reduce
from operator import xor

import pytest

from poslab.data.algorithmic.length_generalization import (
    Addition,
    Copy,
    CopyOneWord,
    CopyOneWordTwice,
    CopyTwice,
    Lego,
    Parity,
    PolynomialEvaluation,
    ReplaceWord,
    Reverse,
    ReverseThenCopy,
    ReverseTwice,
    Sorting,
    SortingNumbers,
    Summation,
)
from tests.data.algorithmic.solving import assert_as_often, assert_solved, drawn, many


def solve_addition(string):
    first, second = "".join(string).split("+")
    return str(int(first) + int(second))


def test_addition_adds():
    assert_solved(Addition(), solve_addition, [*range(1, 61), 500, 1000])


def solve_reversed(string):
    """By hand, digit by digit as they come."""
    first, second = "".join(string).split("+")
    carry = 0
    for place in range(max(len(first), len(second))):
        carry += sum(int(number[place]) for number in (first, second) if place < len(number))
        yield str(carry % 10)
        carry //= 10
    if carry:
        yield str(carry)


def test_reversed_numbers_begin_with_their_lowest_digit():
    task = Addition(reversed=True)
    for length, example in drawn(task, [*range(1, 61), 500]):
        assert tuple(solve_reversed(example.input)) == example.output
        numbers = "".join(example.input).split("+")
        assert max(map(len, numbers)) == length
        assert all(len(number) == 1 or number[-1] != "0" for number in numbers)
    assert "".join(solve_reversed("62735+7191")) == "34655"  # 53726 + 1917 = 55643


def test_reversed_examples_are_the_others_from_right_to_left():
    for plain, example in zip(many(Addition(), 7, 50), many(Addition(reversed=True), 7, 50), strict=True):
        assert example.output == plain.output[::-1]
        first, second = "".join(plain.input).split("+")
        assert "".join(example.input) == f"{first[::-1]}+{second[::-1]}"


def test_addition_has_as_many_digits_as_the_length_in_one_number_and_none_has_more():
    for length, example in drawn(Addition()):
        numbers = "".join(example.input).split("+")
        assert max(map(len, numbers)) == length
        assert all(len(number) == 1 or number[0] != "0" for number in numbers)


def test_addition_goes_on_where_python_takes_no_longer_numbers():
    for example in many(Addition(), 6000, 3):
        first, second = "".join(example.input).split("+")
        with localcontext(prec=7000):
            assert str(Decimal(first) + Decimal(second)) == "".join(example.output)


@pytest.mark.parametrize("least_digits", [1, 4, 5])
def test_every_pair_of_digit_counts_with_the_length_as_maximum_comes_as_often(least_digits):
    numbers = ("".join(example.input).split("+") for example in many(Addition(least_digits), 5, 2700))
    counts = range(least_digits, 6)
    among = {(a, b) for a in counts for b in counts if max(a, b) == 5}
    mean = 2700 / len(among)
    assert_as_often((tuple(map(len, pair)) for pair in numbers), among, 0.8 * mean, 1.2 * mean)


def test_addition_has_no_length_below_the_least_digits():
    assert [length for length in range(8) if Addition(least_digits=4).has_length(length)] == [4, 5, 6, 7]


def test_a_number_of_one_digit_can_be_zero():
    assert {example.input[0] for example in many(Addition(), 1, 300)} == set("0123456789")


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


def clauses(string):
    return [clause.split() for clause in " ".join(string).split(" ? ")[0].split(" , ")]


def solve_lego(string):
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
    assert_solved(task, solve_lego)


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


def test_parity_asks_whether_the_ones_are_even():
    assert_solved(Parity(), lambda string: [("Yes", "No")[reduce(xor, map(int, string))]])


def solver(modulus):
    def solve(string):
        x, polynomial = re.fullmatch(r"x = (.+) in (.+)", " ".join(string)).groups()
        return (str(eval(polynomial, {"x": eval(x)}) % modulus),)

    return solve


@pytest.mark.parametrize("modulus", [10, 2, 17])
def test_polynomial_evaluation_is_what_python_makes_of_it(modulus):
    assert_solved(PolynomialEvaluation(modulus), solver(modulus))


def test_polynomial_evaluation_has_as_many_terms_as_the_length():
    for length, example in drawn(PolynomialEvaluation()):
        terms = " ".join(example.input).split(" in ")[1].split(" + ")
        assert len(terms) == length
        assert all(re.fullmatch(r"(- [123]|[0123]) \* x \*\* [0123]", term) for term in terms)


def test_every_number_of_the_paper_comes_as_often():
    text = [" ".join(example.input) for example in many(PolynomialEvaluation(), 20, 400)]
    terms = [term.split(" * x ** ") for line in text for term in line.split(" in ")[1].split(" + ")]
    coefficients, exponents = zip(*terms, strict=True)
    assert_as_often(coefficients, {"- 3", "- 2", "- 1", "0", "1", "2", "3"}, 1000, 1290)
    assert_as_often(exponents, "0123", 1850, 2150)
    x = (line.split(" in ")[0] for line in text)
    assert_as_often(x, {"x = - 2", "x = - 1", "x = 0", "x = 1", "x = 2"}, 50, 115)


def backwards(string):
    return [string[-place] for place in range(1, len(string) + 1)]


def test_reverse_reverses():
    assert_solved(Reverse(), backwards)


def test_reverse_twice_has_a_mark_between():
    assert_solved(ReverseTwice(), lambda string: [*backwards(string), "[NEXT]", *backwards(string)])


def test_reverse_then_copy_ends_in_the_string_itself():
    assert_solved(ReverseThenCopy(), lambda string: [*backwards(string), "[NEXT]", *string])


def digits_then_small_letters_then_capitals(symbol):
    return symbol.isalpha(), symbol.isupper(), symbol


def numbers_in_order(string):
    return ",".join(map(str, sorted(map(int, "".join(string).split(",")))))


def test_sorting_sorts():
    solve = lambda string: sorted(string, key=digits_then_small_letters_then_capitals)  # noqa: E731
    assert_solved(Sorting(), solve)
    assert_solved(Sorting(num_symbols=62), solve)


def test_sorting_numbers_sorts():
    assert_solved(SortingNumbers(), numbers_in_order)
    assert_solved(SortingNumbers(least=0, most=12), numbers_in_order)


def test_sorting_numbers_has_as_many_numbers_as_the_length():
    assert all(example.input.count(",") + 1 == length for length, example in drawn(SortingNumbers()))


def test_sorting_numbers_has_all_numbers_of_the_range():
    numbers = {int("".join(example.input)) for example in many(SortingNumbers(least=7, most=12), 1, 200)}
    assert numbers == {7, 8, 9, 10, 11, 12}
    numbers = [int("".join(example.input)) for example in many(SortingNumbers(), 1, 2000)]
    assert 10 <= min(numbers) < 100 and 9900 < max(numbers) < 10_000


@pytest.mark.parametrize("modulus", [10, 2, 23])
def test_summation_is_what_python_makes_of_it(modulus):
    assert_solved(Summation(modulus), lambda string: (str(eval("".join(string)) % modulus),))


def test_summation_has_as_many_digits_as_the_length_and_no_zero():
    for length, example in drawn(Summation()):
        assert len(example.input[::2]) == length
        assert set(example.input[1::2]) <= {"+"}
        assert set(example.input[::2]) <= set("123456789")


def test_every_answer_comes_as_often():
    assert_as_often((example.output[0] for example in many(Summation(), 30, 3000)), "0123456789", 240, 360)
