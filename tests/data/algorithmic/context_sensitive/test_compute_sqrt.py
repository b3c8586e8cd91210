from poslab.data.algorithmic.context_sensitive.compute_sqrt import ComputeSqrt
from tests.data.algorithmic.solving import assert_as_often, assert_solved, many


def solve(string):
    """One bit of the root after the other, from the highest: it is set where the square stays within the number."""
    number = sum(2**place for place, bit in enumerate(reversed(string)) if bit == "1")
    num_bits = -(-len(string) // 2)
    root = 0
    for place in reversed(range(num_bits)):
        if (root + 2**place) ** 2 <= number:
            root += 2**place
    return "".join("1" if root & 2**place else "0" for place in reversed(range(num_bits)))


def test_compute_sqrt_is_the_largest_number_whose_square_fits():
    assert_solved(ComputeSqrt(), solve, [*range(1, 61), 500, 501])


def test_the_number_is_any_but_zero_as_often():
    numbers = ("".join(example.input) for example in many(ComputeSqrt(), 3, 2100))
    assert_as_often(numbers, [f"{number:03b}" for number in range(1, 8)], 240, 360)
