from poslab.data.algorithmic.context_sensitive.binary_multiplication import BinaryMultiplication
from tests.data.algorithmic.context_sensitive.test_binary_addition import add
from tests.data.algorithmic.solving import assert_solved, drawn


def multiply(first, second):
    """On paper: the second number moved along for every one of the first, and all added."""
    product = ""
    for place, bit in enumerate(first):
        if bit == "1":
            product = add(product, "0" * place + second)
    return product


def solve(string):
    product = multiply(*"".join(string).split("*"))
    return (product + ".").ljust(len(string), "0")


def test_binary_multiplication_multiplies():
    assert_solved(BinaryMultiplication(), solve)


def test_binary_multiplication_multiplies_numbers_of_hundreds_of_bits():
    for _, example in drawn(BinaryMultiplication(), [500], seeds=2):
        first, second = "".join(example.input).split("*")
        product = "".join(example.output).split(".")[0]
        assert eval(f"0b{first[::-1]} * 0b{second[::-1]} == 0b{product[::-1]}")
        assert product[-1] == "1"


def test_binary_multiplication_without_padding_ends_at_the_stop():
    assert_solved(BinaryMultiplication(padded=False), lambda string: solve(string).rstrip("0"))
