from poslab.data.algorithmic.length_generalization.sorting import Sorting, SortingNumbers
from tests.data.algorithmic.solving import assert_solved, drawn, many


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
