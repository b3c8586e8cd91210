import re
from collections import deque
from itertools import accumulate, cycle, islice, pairwise

import pytest

from poslab.data.algorithmic.chomsky import (
    BinaryAddition,
    BinaryMultiplication,
    BucketSort,
    ComputeSqrt,
    CycleNavigation,
    DuplicateString,
    EvenPairs,
    MissingDuplicate,
    ModularArithmetic,
    ModularArithmeticBrackets,
    OddsFirst,
    ParityCheck,
    ReverseString,
    SolveEquation,
    StackManipulation,
)
from tests.data.algorithmic.solving import assert_as_often, assert_solved, drawn, many


def solver_cycle_navigation(cycle_length):
    def solve(moves):
        circle = deque(range(cycle_length))
        for move in moves:
            circle.rotate({"left": 1, "stay": 0, "right": -1}[move])
        return (str(circle[0]),)

    return solve


@pytest.mark.parametrize("cycle_length", [5, 2, 3, 12])
def test_cycle_navigation_walks_around_a_circle(cycle_length):
    assert_solved(CycleNavigation(cycle_length), solver_cycle_navigation(cycle_length))


def test_a_long_walk_ends_everywhere_as_often():
    assert_as_often((example.output[0] for example in many(CycleNavigation(), 60, 2000)), "01234", 340, 460)


def solve_even_pairs(string):
    return str(sum({"0", "1"} == set(pair) for pair in pairwise(string)) % 2)


def test_even_pairs_counts_changes():
    assert_solved(EvenPairs(), solve_even_pairs)


def solver_modular_arithmetic(modulus):
    return lambda expression: (str(eval("".join(expression)) % modulus),)


@pytest.mark.parametrize(
    ("modulus", "operators"), [(5, ["+", "-", "*"]), (2, ["*"]), (7, ["-", "+"]), (13, ("*", "-"))]
)
def test_modular_arithmetic_is_what_python_makes_of_it(modulus, operators):
    task = ModularArithmetic(modulus, operators)
    assert_solved(task, solver_modular_arithmetic(modulus))
    assert all(set(example.input[1::2]) <= set(operators) for _, example in drawn(task))


def test_modular_arithmetic_has_odd_lengths_and_one_symbol_of_output():
    task = ModularArithmetic()
    assert [length for length in range(10) if task.has_length(length)] == [1, 3, 5, 7, 9]
    assert all((len(example.input), len(example.output)) == (length, 1) for length, example in drawn(task))


def test_numbers_and_operators_come_as_often():
    examples = many(ModularArithmetic(), 41, 300)
    assert_as_often((number for example in examples for number in example.input[::2]), "01234", 1150, 1370)
    assert_as_often((operator for example in examples for operator in example.input[1::2]), "+-*", 1870, 2130)


NEXT_STATE = {"even": {"0": "even", "1": "odd"}, "odd": {"0": "odd", "1": "even"}}


def solve_parity_check(string):
    state = "even"
    for symbol in string:
        state = NEXT_STATE[state][symbol]
    return {"even": "0", "odd": "1"}[state]


def test_parity_check_is_an_automaton_of_two_states():
    assert_solved(ParityCheck(), solve_parity_check)


def solver_modular_arithmetic_brackets(modulus):
    return lambda expression: (str(eval("".join(expression)) % modulus),)


def left_length(expression):
    """Symbols of the first of the two expressions in the outermost brackets."""
    inside = expression[1:-1]
    if inside[0] != "(":
        return 2 if inside[0] == "-" else 1
    depths = accumulate((symbol == "(") - (symbol == ")") for symbol in inside)
    return [*depths].index(0) + 1


@pytest.mark.parametrize(
    ("modulus", "operators"), [(5, ["+", "-", "*"]), (2, ["*"]), (9, ["+", "-"]), (13, ("*", "-", "+"))]
)
def test_modular_arithmetic_brackets_is_what_python_makes_of_it(modulus, operators):
    assert_solved(ModularArithmeticBrackets(modulus, operators), solver_modular_arithmetic_brackets(modulus))


@pytest.mark.parametrize(("length", "form"), [(1, r"\d"), (2, r"-\d"), (3, r"\(\d\)"), (4, r"\(-\d\)")])
def test_short_expressions_are_a_number_with_a_sign_or_brackets_or_both(length, form):
    texts = {"".join(example.input) for example in many(ModularArithmeticBrackets(), length, 60)}
    assert len(texts) == 5
    assert all(re.fullmatch(form, text) for text in texts)


def test_every_operation_stands_in_brackets():
    for _, example in drawn(ModularArithmeticBrackets()):
        text = "".join(example.input)
        while len(text) > 1:
            # A sign stands at the beginning of an expression, an operator behind one.
            shorter = re.sub(r"\((?:-?\d|-?[\dE][+*-]-?[\dE]|E[+*-]-?[\dE])\)", "E", text)
            if shorter == text:
                break
            text = shorter
        assert re.fullmatch(r"E|-?\d", text), text


def test_the_first_part_takes_any_share_as_often_and_so_does_any_operator():
    lengths = (left_length(example.input) for example in many(ModularArithmeticBrackets(), 12, 3200))
    assert_as_often(lengths, range(1, 9), 330, 470)
    operators = (example.input[2] for example in many(ModularArithmeticBrackets(), 5, 1500))
    assert_as_often(operators, "+-*", 430, 570)


def test_a_deep_expression_needs_no_recursion():
    example = many(ModularArithmeticBrackets(), 20_000, 1)[0]
    assert len(example.input) == 20_000


def solve_reverse_string(string):
    stack = deque()
    stack.extendleft(string)
    return stack


def test_reverse_string_reverses():
    assert_solved(ReverseString(), solve_reverse_string)
    assert_solved(ReverseString(num_symbols=7), solve_reverse_string)


def solver_solve_equation(modulus):
    def solve(equation):
        left, right = "".join(equation).split("=")
        assert int(right) in range(modulus)
        (solution,) = [x for x in range(modulus) if (eval(left, {"x": x}) - int(right)) % modulus == 0]
        return (str(solution),)

    return solve


@pytest.mark.parametrize("modulus", [5, 2, 11])
def test_solve_equation_has_one_solution_and_asks_for_it(modulus):
    assert_solved(SolveEquation(modulus), solver_solve_equation(modulus))


def test_solve_equation_has_one_unknown_and_one_sign_of_equality():
    assert all(example.input.count("x") == example.input.count("=") == 1 for _, example in drawn(SolveEquation()))


def test_every_solution_comes_as_often():
    assert_as_often((example.output[0] for example in many(SolveEquation(), 20, 2000)), "01234", 330, 470)


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


def solve_stack_manipulation(string):
    left = what_is_left(string)
    return [*left, ".", *["0"] * (len(string) - len(left))]


def test_stack_manipulation_gives_what_is_left_from_the_top():
    assert_solved(StackManipulation(), solve_stack_manipulation)


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


def add(first, second):
    """Bit by bit, from the lowest."""
    total, carry = "", 0
    for place in range(max(len(first), len(second))):
        ones = carry + (first[place : place + 1] == "1") + (second[place : place + 1] == "1")
        total, carry = total + str(ones % 2), ones // 2
    return (total + "1" * carry).rstrip("0")


def solve_binary_addition(string):
    total = add(*"".join(string).split("+"))
    return (total + ".").ljust(len(string) + 1, "0")


def test_binary_addition_adds():
    assert_solved(BinaryAddition(), solve_binary_addition, [*range(1, 61), 499, 500, 1000])


def test_binary_addition_without_padding_ends_at_the_stop():
    assert_solved(BinaryAddition(padded=False), lambda string: solve_binary_addition(string).rstrip("0"))


def test_the_first_number_has_any_length_as_often_and_a_number_is_any_but_zero():
    texts = ["".join(example.input) for example in many(BinaryAddition(), 6, 4000)]
    assert_as_often((text.index("+") for text in texts), range(1, 5), 880, 1120)
    assert_as_often((text[:2] for text in texts if text.index("+") == 2), ["01", "10", "11"], 260, 410)


def multiply(first, second):
    """On paper: the second number moved along for every one of the first, and all added."""
    product = ""
    for place, bit in enumerate(first):
        if bit == "1":
            product = add(product, "0" * place + second)
    return product


def solve_binary_multiplication(string):
    product = multiply(*"".join(string).split("*"))
    return (product + ".").ljust(len(string), "0")


def test_binary_multiplication_multiplies():
    assert_solved(BinaryMultiplication(), solve_binary_multiplication)


def test_binary_multiplication_multiplies_numbers_of_hundreds_of_bits():
    for _, example in drawn(BinaryMultiplication(), [500], seeds=2):
        first, second = "".join(example.input).split("*")
        product = "".join(example.output).split(".")[0]
        assert eval(f"0b{first[::-1]} * 0b{second[::-1]} == 0b{product[::-1]}")
        assert product[-1] == "1"


def test_binary_multiplication_without_padding_ends_at_the_stop():
    assert_solved(BinaryMultiplication(padded=False), lambda string: solve_binary_multiplication(string).rstrip("0"))


def test_bucket_sort_sorts():
    assert_solved(BucketSort(), lambda string: sorted(string, key=int))


def test_bucket_sort_goes_by_number_where_there_are_more_than_ten_symbols():
    for length, example in drawn(BucketSort(num_symbols=30)):
        assert len(example.input) == length
        assert [*example.output] == sorted(example.input, key=int)


def solve_compute_sqrt(string):
    """One bit of the root after the other, from the highest: it is set where the square stays within the number."""
    number = sum(2**place for place, bit in enumerate(reversed(string)) if bit == "1")
    num_bits = -(-len(string) // 2)
    root = 0
    for place in reversed(range(num_bits)):
        if (root + 2**place) ** 2 <= number:
            root += 2**place
    return "".join("1" if root & 2**place else "0" for place in reversed(range(num_bits)))


def test_compute_sqrt_is_the_largest_number_whose_square_fits():
    assert_solved(ComputeSqrt(), solve_compute_sqrt, [*range(1, 61), 500, 501])


def test_the_number_is_any_but_zero_as_often():
    numbers = ("".join(example.input) for example in many(ComputeSqrt(), 3, 2100))
    assert_as_often(numbers, [f"{number:03b}" for number in range(1, 8)], 240, 360)


def test_duplicate_string_goes_around_twice():
    assert_solved(DuplicateString(), lambda string: islice(cycle(string), 2 * len(string)))


@pytest.mark.parametrize("num_copies", [1, 3])
def test_duplicate_string_has_as_many_copies_as_asked_for(num_copies):
    for length, example in drawn(DuplicateString(num_symbols=9, num_copies=num_copies)):
        assert len(example.input) == length
        assert example.output == tuple(islice(cycle(example.input), num_copies * length))


def solve_missing_duplicate(string):
    text = "".join(string).removesuffix(".")
    half = len(text) // 2
    guesses = {guess: text.replace("_", guess) for guess in "01"}
    (missing,) = [guess for guess, full in guesses.items() if full[:half] == full[half:]]
    return missing


def test_missing_duplicate_has_one_answer_and_asks_for_it():
    assert_solved(MissingDuplicate(), solve_missing_duplicate)


def test_missing_duplicate_has_one_gap_and_a_point_where_its_length_is_odd():
    for length, example in drawn(MissingDuplicate()):
        assert example.input.count("_") == 1
        assert example.input.count(".") == length % 2 == (example.input[-1] == ".")


def test_any_symbol_is_missing_as_often_and_both_answers_come_as_often():
    examples = many(MissingDuplicate(), 8, 2400)
    assert_as_often((example.input.index("_") for example in examples), range(8), 230, 370)
    assert_as_often((example.output[0] for example in examples), "01", 1080, 1320)


def solve_odds_first(string):
    numbered_from_one = list(enumerate(string, start=1))
    odd = [symbol for number, symbol in numbered_from_one if number % 2]
    even = [symbol for number, symbol in numbered_from_one if not number % 2]
    return odd + even


def test_odds_first_counts_from_one():
    assert_solved(OddsFirst(), solve_odds_first)
    assert_solved(OddsFirst(num_symbols=6), solve_odds_first)
    assert "".join(solve_odds_first("aaabaa")) == "aaaaba"  # table 1 of the paper
