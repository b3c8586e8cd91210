"""Tasks on words, digits and variables, for models that write their answers.

Source: Kazemnejad et al., "The Impact of Positional Encoding on Length Generalization in Transformers" (NeurIPS 2023),
whose other two tasks are in `compositional.py`.
"""

from functools import cached_property
from itertools import zip_longest
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Annotated, ClassVar

import numpy as np

from poslab.arguments import Range
from poslab.data.algorithmic.examples import AlgorithmicTask, AtLeastOne, AtLeastTwo, Example, draw, numbered

NEXT = "[NEXT]"
ORDER = digits + ascii_lowercase + ascii_uppercase


class Copy(AlgorithmicTask):
    """A random string of words, again.

        w7 w0 w98 w7  ->  w7 w0 w98 w7

    `length` is the number of input words, at least 1, and of output words. The paper's text is "Copy: Q 0 ! Q" and,
    after a separator, "Q 0 ! Q"; its words are characters and others that are tokens of T5.

    Args:
        num_words: different words, at least 2 (paper: 100).

    Source: Kazemnejad et al. 2023, table 1; in the authors' code, `copy_multi_char`.
    """

    steps: ClassVar[tuple[int, ...]] = (1,)
    """The output is the input in each of these steps, -1 being backwards, with marks between."""

    num_words: AtLeastTwo = 100

    @property
    def words(self) -> tuple[str, ...]:
        return numbered(self.num_words, "w")

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.words if len(self.steps) == 1 else (*self.words, NEXT)

    def example(self, length: int, generator: np.random.Generator) -> Example:
        string = self.string(length, generator)
        return Example(string, self.output(string))

    def string(self, length: int, generator: np.random.Generator) -> tuple[str, ...]:
        """Draw an input."""
        return draw(self.words, length, generator)

    def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
        """Return the right output for an input."""
        return tuple([word for step in self.steps for word in (NEXT, *string[::step])][1:])


class CopyTwice(Copy):
    """A random string of words, twice, with a mark between.

        w7 w0 w98  ->  w7 w0 w98 [NEXT] w7 w0 w98

    `length` is the number of input words; the output has twice as many and the mark. All else is as in `Copy`; in the
    authors' code, `copy_multi_char_2x`.
    """

    steps = (1, 1)


class CopyOneWord(Copy):
    """A random word that repeats, equally often again, which takes counting.

        w7 w7 w7  ->  w7 w7 w7

    `length` is the number of input words, and of output words. All else is as in `Copy`; in the authors' code,
    `repeat_single_char`, with as many words as examples of a length, about 6,000.
    """

    def string(self, length: int, generator: np.random.Generator) -> tuple[str, ...]:
        return draw(self.words, 1, generator) * length


class CopyOneWordTwice(CopyOneWord):
    """A random word that repeats, twice as often.

        w7 w7 w7  ->  w7 w7 w7 w7 w7 w7

    `length` is the number of input words; the output has twice as many. All else is as in `CopyOneWord`; in the
    authors' code, `repeat_single_2x_char`.
    """

    def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
        return string * 2


class ReplaceWord(Copy):
    """A random word that repeats, with another instead.

        replace w7 with w3 in w7 w7 w7  ->  w3 w3 w3

    `length` is the number of words to be replaced, and of output words; the input has five more. The paper's text is
    "Replace 7 with 3 in 7 7 7" and, after a separator, "3 3 3". All else is as in `Copy`; in the authors' code,
    `repeat_double_char`, with all pairs of 82 words.
    """

    @property
    def symbols(self) -> tuple[str, ...]:
        return *self.words, "replace", "with", "in"

    def example(self, length: int, generator: np.random.Generator) -> Example:
        old, shift = int(generator.integers(self.num_words)), int(generator.integers(1, self.num_words))
        word, other = self.words[old], self.words[(old + shift) % self.num_words]
        return Example(("replace", word, "with", other, "in", *[word] * length), (other,) * length)


class Reverse(Copy):
    """A random string of words backwards.

        w7 w0 w98  ->  w98 w0 w7

    `length` is the number of input words, at least 1, and of output words. The paper's text is "Reverse: Q 0 !" and,
    after a separator, "! 0 Q". All else is as in `Copy`; in the authors' code, `multi_char`.
    """

    steps = (-1,)


class ReverseTwice(Copy):
    """A random string of words backwards, twice, with a mark between.

        w7 w0 w98  ->  w98 w0 w7 [NEXT] w98 w0 w7

    `length` is the number of input words; the output has twice as many and the mark. All else is as in `Reverse`; in
    the authors' code, `multi_char_2x`.
    """

    steps = (-1, -1)


class ReverseThenCopy(Copy):
    """A random string of words backwards, then forwards, with a mark between.

        w7 w0 w98  ->  w98 w0 w7 [NEXT] w7 w0 w98

    `length` is the number of input words; the output has twice as many and the mark. All else is as in `Reverse`; in
    the authors' code, `multi_char_rev_cop`.
    """

    steps = (-1, 1)


class Addition(AlgorithmicTask):
    """The sum of two decimal numbers, the highest digit of each first.

        5 3 7 2 6 + 1 9 1 7  ->  5 5 6 4 3

    `length` is the digits of the longer number, at least `least_digits`. All pairs of digit counts with that maximum
    are equally likely; numbers do not start with 0, unless they have one digit. The paper's text is "Compute 5 3 7 2 6
    + 1 9 1 7 ?" and "The answer is 5 5 6 4 3."

    The paper has equally many examples of every pair of digit counts from its least to its largest one, so that longer
    lengths have more: (length - least) * 2 + 1 pairs have a maximum of `length`. It tests pairs of which one or both
    have more digits than in training.

    Under `reversed`, every number starts with its lowest digit instead, the sum too: `6 2 7 3 5 + 7 1 9 1` gives
    `3 4 6 5 5`. Each digit of the sum then follows from two digits of equal significance and from earlier ones, which
    suits encodings of digits by their significance (Abacus).

    Args:
        least_digits: of a number, at least 1 (the default of the authors' script is 4).
        reversed: whether numbers start with their lowest digit (paper: false; McLeish et al. 2024: true).

    Source: Kazemnejad et al. 2023, table 1; distributions from the authors' code.
    """

    symbols = (*numbered(10), "+")

    least_digits: AtLeastOne = 1
    reversed: bool = False

    def has_length(self, length: int) -> bool:
        return length >= self.least_digits

    def example(self, length: int, generator: np.random.Generator) -> Example:
        # 2n + 1 pairs, in a row: the first number shorter, both as long, the second number shorter.
        by_fewer = length - self.least_digits
        difference = int(generator.integers(-by_fewer, by_fewer + 1))
        first = _digits(length - max(-difference, 0), generator)
        second = _digits(length - max(difference, 0), generator)
        numbers = [first, second, _sum(first, second)]
        first, second, total = (number[::-1] if self.reversed else number for number in numbers)
        return Example((*map(str, first), "+", *map(str, second)), tuple(map(str, total)))

    def most_tokens(self, length: int) -> int:
        return 3 * length + 3  # of two numbers of as many digits, whose sum has one more


def _digits(count: int, generator: np.random.Generator) -> list[int]:
    digits: list[int] = generator.integers(10, size=count).tolist()
    if count > 1:
        digits[0] = int(generator.integers(1, 10))
    return digits


def _sum(first: list[int], second: list[int]) -> list[int]:
    """Add digit by digit: Python neither reads nor writes numbers of more than 4,300 digits."""
    total, carry = [], 0
    for digit_1, digit_2 in zip_longest(reversed(first), reversed(second), fillvalue=0):
        carry, digit = divmod(digit_1 + digit_2 + carry, 10)
        total.append(digit)
    return [1] * carry + total[::-1]


class Summation(AlgorithmicTask):
    """The sum of digits modulo a number.

        3 + 9 + 1 + 4  ->  7    17

    `length` is the number of digits, at least 1, all from 1 to 9 equally likely. The output is one symbol. The paper's
    text is "Compute: 3 + 9 + 1 + 4 ." and, after a separator, "The answer is 7 ."

    Args:
        modulus: at least 2 (paper: 10).

    Source: Kazemnejad et al. 2023, table 1; form and distribution from the authors' code.
    """

    modulus: AtLeastTwo = 10

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(max(10, self.modulus)), "+"

    def example(self, length: int, generator: np.random.Generator) -> Example:
        digits = generator.integers(1, 10, size=length).tolist()
        return Example(tuple("+".join(map(str, digits))), (str(sum(digits) % self.modulus),))


class Parity(AlgorithmicTask):
    """The parity of the ones of a random binary string, in words: Yes if they are even in number.

        1 0 0 1 1  ->  No     three ones
        0 0 1 1    ->  Yes    two

    `length` is the number of bits, at least 1; the output is one symbol. The paper's text is "Is the number of 1's even
    in the sequence [ 1, 0, 0, 1, 1 ] ?" and "The answer is No." But for the words, it is `ParityCheck`.

    Source: Kazemnejad et al. 2023, table 1; form and distribution from the authors' code.
    """

    symbols = ("0", "1", "Yes", "No")

    def example(self, length: int, generator: np.random.Generator) -> Example:
        string = draw(("0", "1"), length, generator)
        return Example(string, ("No" if string.count("1") % 2 else "Yes",))


class PolynomialEvaluation(AlgorithmicTask):
    """The value of a polynomial modulo a number.

        x = - 2 in 3 * x ** 2 + - 1 * x ** 0  ->  1    12 - 1 = 11

    `length` is the number of terms, at least 1. Coefficients are integers from -3 to 3, exponents from 0 to 3, and x
    from -2 to 2, equally likely; exponents are in no order and may repeat. The output is one symbol. The paper's text
    is "Evaluate at x = - 2 in 3 * x ** 2 + - 1 * x ** 0 ?" and "The answer is 1."

    Args:
        modulus: at least 2 (paper: 10).

    Source: Kazemnejad et al. 2023, table 1; form and distributions from the authors' code.
    """

    modulus: AtLeastTwo = 10

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(max(4, self.modulus)), "x", "=", "in", "*", "**", "+", "-"

    def example(self, length: int, generator: np.random.Generator) -> Example:
        coefficients = generator.integers(-3, 4, size=length).tolist()
        exponents = generator.integers(4, size=length).tolist()
        x = int(generator.integers(-2, 3))
        question, value = ["x", "=", *_signed(x), "in"], 0
        for coefficient, exponent in zip(coefficients, exponents, strict=True):
            question += [*_signed(coefficient), "*", "x", "**", str(exponent), "+"]
            value += coefficient * x**exponent
        return Example(tuple(question[:-1]), (str(value % self.modulus),))

    def most_tokens(self, length: int) -> int:
        return 7 * length + 6  # where x and all coefficients are negative


def _signed(number: int) -> list[str]:
    return ["-", str(-number)] if number < 0 else [str(number)]


class Sorting(AlgorithmicTask):
    """A random string of single symbols in order: digits, then small letters, then capitals.

        k 3 B k 0  ->  0 3 k k B

    `length` is the number of input symbols, at least 1, and of output symbols. The paper's text is "Sort the following
    list [ k, 3, B, k, 0 ]." and "The sorted list is [ 0, 3, k, k, B ]."

    Args:
        num_symbols: different symbols, 2 to 62 (paper: 50): the first ones of the order.

    Source: Kazemnejad et al. 2023, table 1, sorting of single tokens; details from the authors' code.
    """

    num_symbols: Annotated[int, Range(at_least=2, at_most=len(ORDER))] = 50

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(ORDER[: self.num_symbols])

    def example(self, length: int, generator: np.random.Generator) -> Example:
        string = draw(self.symbols, length, generator)
        return Example(string, tuple(sorted(string, key=ORDER.index)))


class SortingNumbers(AlgorithmicTask):
    """Random numbers in order, digit by digit, with commas between.

        5 7 1 , 4 0 2 6 , 9 3  ->  9 3 , 5 7 1 , 4 0 2 6

    `length` is the number of numbers, at least 1, all from `least` to `most` equally likely. The paper's text is "Sort
    the following list [ 5 7 1, 4 0 2 6, 9 3 ]." and "The sorted list is [ 9 3, 5 7 1, 4 0 2 6 ]."

    Args:
        least: smallest number, at least 0 (paper: 10).
        most: largest number, at least `least` (paper: 9999).

    Source: Kazemnejad et al. 2023, table 1, sorting of multi-digit numbers; details from the authors' code.
    """

    symbols = (*numbered(10), ",")

    least: Annotated[int, Range(at_least=0)] = 10
    most: Annotated[int, Range(at_least=0)] = 9999

    def __post_init__(self) -> None:
        if self.most < self.least:
            raise ValueError(f"most must be at least least={self.least}, got {self.most}")

    def example(self, length: int, generator: np.random.Generator) -> Example:
        numbers = generator.integers(self.least, self.most, size=length, endpoint=True)
        return Example(_digit_by_digit(numbers.tolist()), _digit_by_digit(np.sort(numbers).tolist()))

    def most_tokens(self, length: int) -> int:
        return 2 * len(_digit_by_digit([self.most] * length)) + 1


def _digit_by_digit(numbers: list[int]) -> tuple[str, ...]:
    return tuple(",".join(map(str, numbers)))


class Lego(AlgorithmicTask):
    """The value of a variable in a chain, in which each is the one before or its opposite.

        a = -1 , b = - a , c = + b , d = + c ? c  ->  +1    a is -1, b +1, c +1

    `length` is the number of variables, 2 to `num_names`. Their names are in random order, and both values are equally
    likely. The question is about any variable of the second half of the chain, equally likely: the 3rd and 4th of 4,
    and the 4th and 5th of 5. The output is one symbol. The paper's text is "If a = -1, b = - a, c = + b, d = + c. Then,
    what is the value of c?" and "The answer is +1."

    The authors make an example of every variable of the second half of a chain.

    Args:
        num_names: names for variables, at least 2 (paper: 26): the letters, then a1 to z1, a2 to z2 and so on.
        shuffled: whether the clauses are in random order (paper: they follow the chain).

    Source: Zhang et al., "Unveiling Transformers with LEGO" (2022), section 2; in this form, Kazemnejad et al. 2023,
    table 1, and their code.
    """

    num_names: AtLeastTwo = 26
    shuffled: bool = False

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of variables."""
        rounds = -(-self.num_names // len(ascii_lowercase))
        suffixes = ["", *map(str, range(1, rounds))]
        return tuple([letter + suffix for suffix in suffixes for letter in ascii_lowercase])[: self.num_names]

    @property
    def symbols(self) -> tuple[str, ...]:
        return *self.names, "+1", "-1", "=", "+", "-", ",", "?"

    def has_length(self, length: int) -> bool:
        return 2 <= length <= self.num_names

    def example(self, length: int, generator: np.random.Generator) -> Example:
        names = [self.names[n] for n in generator.permutation(self.num_names)[:length].tolist()]
        values = [("-1", "+1")[n] for n in generator.integers(2, size=length).tolist()]
        clauses = [[names[0], "=", values[0]]]
        for n in range(1, length):
            clauses.append([names[n], "=", "+" if values[n] == values[n - 1] else "-", names[n - 1]])
        order = generator.permutation(length).tolist() if self.shuffled else range(length)
        # Counted from 0; of an odd number of variables, the middle one is left out.
        asked = int(generator.integers((length + 1) // 2, length))
        question: list[str] = []
        for n in order:
            question += [*clauses[n], ","]
        question[-1] = "?"
        return Example((*question, names[asked]), (values[asked],))
