"""Tasks on strings and numbers from the regular, context-free and context-sensitive languages.

Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1. Regular tasks need a fixed
number of states, context-free ones a stack, and context-sensitive ones a bounded tape.
"""

import math
import operator
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

import numpy as np

from poslab.data.algorithmic.examples import AlgorithmicTask, AtLeastOne, AtLeastTwo, Example, draw, numbered

OPERATIONS: dict[str, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}


class StringTask(AlgorithmicTask):
    """A task on random strings of numbered symbols.

    Args:
        num_symbols: different symbols, at least 2 (default 2, as in the paper).
    """

    num_symbols: AtLeastTwo = 2

    @property
    def symbols(self) -> tuple[str, ...]:
        return numbered(self.num_symbols)

    def example(self, length: int, generator: np.random.Generator) -> Example:
        string = draw(self.symbols, length, generator)
        return Example(string, self.output(string))

    @abstractmethod
    def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
        """Return the right output for an input."""


class EvenPairs(AlgorithmicTask):
    """The parity of the pairs 01 and 10 of a random binary string: 0 if they are even in number, 1 if not.

        0 0 1 1 1 0    ->  0    one 01 and one 10
        0 1 0 1 0 0 1  ->  1    three 01 and two 10

    Each of these pairs changes the symbol, so they are even exactly if the last symbol equals the first.

    `length` is the number of input symbols, at least 1; the output is one symbol.

    Source: Delétang et al. 2023, table 1; 0 and 1 for even and odd as in the authors' code.
    """

    symbols = ("0", "1")

    def example(self, length: int, generator: np.random.Generator) -> Example:
        string = draw(self.symbols, length, generator)
        return Example(string, ("0" if string[0] == string[-1] else "1",))


class Arithmetic(AlgorithmicTask):
    """A task on expressions.

    Args:
        modulus: numbers are below it; at least 2 (paper: 5).
        operators: some of `+`, `-` and `*`, at least one (paper: all three), equally likely.
    """

    modulus: AtLeastTwo = 5
    operators: Sequence[str] = tuple(OPERATIONS)

    def __post_init__(self) -> None:
        operators = self.operators
        if not operators or len(set(operators)) < len(operators) or not set(operators) <= set(OPERATIONS):
            raise ValueError(f"operators must be one or more of + - *, each once, got {operators!r}")


class ModularArithmetic(Arithmetic):
    """The remainder of an expression without brackets; products come first.

        1 + 2 * 3          ->  2    7 modulo 5
        1 - 1 - 1          ->  4
        0 * 1 + 4 * 3 - 2  ->  0

    `length` is the number of input symbols. It is odd, with one number more than operators. The authors replace an even
    length by the odd one below; drawn from 1 to an even number, odd lengths are as likely here as there. All numbers
    are equally likely, as are all operators. The output is one symbol, a number.

    Source: Delétang et al. 2023, table 1, "Modular Arithmetic (Simple)".
    """

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(self.modulus), *self.operators

    def has_length(self, length: int) -> bool:
        return length >= 1 and length % 2 == 1

    def example(self, length: int, generator: np.random.Generator) -> Example:
        numbers = generator.integers(self.modulus, size=length // 2 + 1).tolist()
        operators = draw(self.operators, length // 2, generator)
        expression = [""] * length
        expression[::2] = map(str, numbers)
        expression[1::2] = operators
        return Example(tuple(expression), (str(self._value(numbers, operators)),))

    def _value(self, numbers: Sequence[int], operators: Iterable[str]) -> int:
        terms, product = 0, numbers[0]
        for sign, number in zip(operators, numbers[1:], strict=True):
            if sign == "*":
                product = product * number % self.modulus
            else:
                terms += product
                product = number if sign == "+" else -number
        return (terms + product) % self.modulus


class ParityCheck(AlgorithmicTask):
    """The parity of the ones of a random binary string: 0 if they are even in number, 1 if not.

        1 0 1 0 1 0 0  ->  1    three ones
        0 1 1 1 1      ->  0    four ones

    `length` is the number of input symbols, at least 1; the output is one symbol.

    Source: Delétang et al. 2023, table 1; 0 and 1 for even and odd as in the authors' code.
    """

    symbols = ("0", "1")

    def example(self, length: int, generator: np.random.Generator) -> Example:
        string = draw(self.symbols, length, generator)
        return Example(string, (str(string.count("1") % 2),))


class CycleNavigation(AlgorithmicTask):
    """The last position of random steps on a circle that begin at position 0.

        right left stay left left  ->  3    -2 on a circle of five
        right right right left     ->  2

    `length` is the number of moves, at least 1, all equally likely. The output is one symbol, a position.

    Args:
        cycle_length: positions of the circle, at least 2 (paper: 5); `right` counts up.

    Source: Delétang et al. 2023, table 1, where the moves are the digits 1, 0 and 2.
    """

    cycle_length: AtLeastTwo = 5

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(self.cycle_length), "left", "stay", "right"

    def example(self, length: int, generator: np.random.Generator) -> Example:
        moves = draw(("left", "stay", "right"), length, generator)
        position = (moves.count("right") - moves.count("left")) % self.cycle_length
        return Example(moves, (str(position),))


class StackManipulation(AlgorithmicTask):
    """The contents of a stack after some actions, from the top down; the input gives it from the bottom up.

        0 1 1 0 PUSH1 POP POP  ->  1 1 0 . 0 0 0 0    0 1 1 is left
        1 1 0 POP POP POP      ->  . 0 0 0 0 0 0      nothing is left

    POP leaves an empty stack unchanged. A stop ends the output, and zeros fill it up: it is equally long for all inputs
    of a length, and does not reveal how much is left. Accuracy leaves out what follows the stop and the loss counts it,
    as the authors' do.

    `length` is the number of input symbols, at least 1; the output has one more. All heights of the stack from 1 to
    `length` - 1 are equally likely, as are all symbols and all actions. A length of 1 has no action.

    Args:
        padded: whether zeros follow the stop (paper: they do). A decoder needs none.

    Source: Delétang et al. 2023, table 1; distributions and padding from the authors' code.
    """

    stop = "."
    actions = ("POP", "PUSH0", "PUSH1")
    symbols = ("0", "1", *actions, stop)

    padded: bool = True

    def example(self, length: int, generator: np.random.Generator) -> Example:
        height = int(generator.integers(1, length)) if length > 1 else 1
        bottom_up = draw(("0", "1"), height, generator)
        actions = draw(self.actions, length - height, generator)
        stack = list(bottom_up)
        for action in actions:
            if action != "POP":
                stack.append(action[-1])
            elif stack:
                stack.pop()
        output = (*reversed(stack), self.stop)
        zeros = ("0",) * (length + 1 - len(output) if self.padded else 0)
        return Example(bottom_up + actions, output + zeros)


class ReverseString(StringTask):
    """A random string backwards.

        0 1 1 0 1 0  ->  0 1 0 1 1 0

    `length` is the number of input symbols, at least 1, and of output symbols.

    Source: Delétang et al. 2023, table 1.
    """

    def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
        return string[::-1]


class ModularArithmeticBrackets(Arithmetic):
    """The remainder of an arithmetic expression with every operation in brackets.

        ( ( 1 - 3 ) * ( - 4 ) )  ->  3    8 modulo 5

    `length` is the number of input symbols, at least 1. One symbol is a number d, two are - d, three ( d ), four
    ( - d ); more are a pair of brackets around two such expressions with an operator between, the first of which has
    any share of the symbols, equally likely. The sign of a number is there whatever `operators` are. The output is one
    symbol, a number.

    Source: Delétang et al. 2023, table 1, "Modular Arithmetic"; the grammar of the authors' code.
    """

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(self.modulus), *dict.fromkeys([*self.operators, "-"]), "(", ")"

    def example(self, length: int, generator: np.random.Generator) -> Example:
        expression, value = _draw_expression(length, self.modulus, self.operators, generator)
        return Example(tuple(expression), (str(value),))


def _draw_expression(
    length: int, modulus: int, operators: Sequence[str], generator: np.random.Generator
) -> tuple[list[str], int]:
    """Draw an expression in brackets; return it and its value, 0 to `modulus` - 1; arguments as of the task."""
    # More than there can be of each: drawn at once, they cost less than one by one.
    digits = generator.integers(modulus, size=length).tolist()
    signs = list(draw(operators, length, generator))
    shares = generator.random(length).tolist()
    # No recursion, which may be as deep as a quarter of the length. The stack contains the rest of the expression, the
    # next part on top: a length, a symbol, or an operation whose bracket closes.
    to_write: list[int | str | Callable[[int, int], int]] = [length]
    expression: list[str] = []
    values: list[int] = []
    while to_write:
        part = to_write.pop()
        if isinstance(part, str):
            expression.append(part)
        elif not isinstance(part, int):
            expression.append(")")
            right = values.pop()
            values[-1] = part(values[-1], right) % modulus
        elif part >= 5:
            left = 1 + int(shares.pop() * (part - 4))
            sign = signs.pop()
            to_write += [OPERATIONS[sign], part - 3 - left, sign, left, "("]
        else:
            digit = digits.pop()
            number = [str(digit)] if part % 2 else ["-", str(digit)]
            expression += ["(", *number, ")"] if part > 2 else number
            values.append(digit if part % 2 else -digit)
    return expression, values[0] % modulus


class SolveEquation(AlgorithmicTask):
    """The only number that solves an equation, up to multiples of the modulus.

        ( ( x - 3 ) + ( - 4 ) ) = 0  ->  2    2 - 3 - 4 is -5

    The left side is an expression of `ModularArithmeticBrackets` with x for one of its numbers: the first one from a
    random symbol on, wrapping around at the end. Without products, x has exactly one solution.

    `length` is the number of input symbols, at least 3: x = d. The authors' code gives an input of zeros with the
    answer 0 for lengths of 1 and 2, which are left out here. The output is one symbol, a number.

    Args:
        modulus: numbers are below it; at least 2 (paper: 5).

    Source: Delétang et al. 2023, table 1; the position of x as in the authors' code, whose operators are + and -.
    """

    shortest = 3

    modulus: AtLeastTwo = 5

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(self.modulus), "+", "-", "(", ")", "x", "="

    def example(self, length: int, generator: np.random.Generator) -> Example:
        equation, value = _draw_expression(length - 2, self.modulus, ("+", "-"), generator)
        position = int(generator.integers(len(equation)))
        while not equation[position].isdigit():
            position = (position + 1) % len(equation)
        solution, equation[position] = equation[position], "x"
        return Example((*equation, "=", str(value)), (solution,))


class DuplicateString(StringTask):
    """A random string, twice.

        1 0 0  ->  1 0 0 1 0 0

    `length` is the number of input symbols, at least 1; the output has `num_copies` times as many.

    Args:
        num_copies: copies of the input in the output, at least 1 (paper: 2).

    Source: Delétang et al. 2023, table 1.
    """

    num_copies: AtLeastOne = 2

    def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
        return string * self.num_copies


class MissingDuplicate(AlgorithmicTask):
    """The symbol that is missing from a random binary string that is repeated once.

        0 1 1 0 0 _ 1 0  ->  1    0110 twice
        1 0 1 1 _ 1 .    ->  0    101 twice

    `length` is the number of input symbols, at least 2. An odd one has a stop at its end, as in the authors' code. All
    symbols are equally likely to be missing. The output is one symbol. The authors' code gives 1 for the input 1 of
    length 1, which is left out here.

    Source: Delétang et al. 2023, table 1.
    """

    symbols = ("0", "1", "_", ".")
    shortest = 2

    def example(self, length: int, generator: np.random.Generator) -> Example:
        duplicate = list(draw(("0", "1"), length // 2, generator)) * 2
        position = int(generator.integers(len(duplicate)))
        answer, duplicate[position] = duplicate[position], "_"
        return Example((*duplicate, *"." * (length % 2)), (answer,))


class OddsFirst(StringTask):
    """The symbols of a random string at odd positions, counted from 1, and then the symbols at even positions.

        0 0 1 1 0 1 0 1  ->  0 1 0 0 0 1 1 1    first, third, ..., then second, fourth, ...

    `length` is the number of input symbols, at least 1, and of output symbols.

    The paper and the docstrings of both of the authors' repositories have this order. Their code counts from 0, and
    gives the second, fourth, ... symbol first, which is equally hard.

    Source: Delétang et al. 2023, table 1.
    """

    def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
        return string[::2] + string[1::2]


class BinaryAddition(AlgorithmicTask):
    """The sum of two binary numbers, the lowest bit of each first.

        0 0 1 + 0 1 1 0 1        ->  0 1 0 1 1 . 0 0 0 0            4 + 22 = 26
        1 0 0 1 + 0 0 0 0 0 1    ->  1 0 0 1 0 1 . 0 0 0 0 0        9 + 32 = 41

    Numbers of the input may end in zeros; the sum does not. A stop ends it, and zeros fill it up: it is equally long
    for all inputs of a length, and does not reveal how many bits the sum has. Accuracy leaves out what follows the stop
    and the loss counts it, as the authors' do.

    `length` is the number of input symbols, at least 3; the output has one more. All numbers of bits of the first
    number from 1 to `length` - 2 are equally likely, as are all numbers of so many bits but 0. For lengths of 1 and 2,
    which are left out here, the authors' code gives only a number.

    Args:
        padded: whether zeros follow the stop (paper: they do). A decoder needs none.

    Source: Delétang et al. 2023, table 1; order of the bits, distributions and padding from the authors' code.
    """

    stop = "."
    sign = "+"
    symbols = ("0", "1", sign, stop)
    shortest = 3
    carry: ClassVar[int] = 1  # symbols that a padded output has more than the input

    padded: bool = True

    def example(self, length: int, generator: np.random.Generator) -> Example:
        first, second = _draw_two_numbers(length - 1, generator)
        result = OPERATIONS[self.sign](int(first[::-1], 2), int(second[::-1], 2))
        output = f"{result:b}"[::-1] + self.stop
        zeros = "0" * (length + self.carry - len(output) if self.padded else 0)
        return Example(tuple(first + self.sign + second), tuple(output + zeros))


def _draw_two_numbers(num_bits: int, generator: np.random.Generator) -> tuple[str, str]:
    """Draw random bits in two parts, neither of which is empty or all zeros."""
    first_bits = int(generator.integers(1, num_bits))
    while True:  # one draw in four is good at worst, for one bit each
        drawn = "".join(map(str, generator.integers(2, size=num_bits).tolist()))
        first, second = drawn[:first_bits], drawn[first_bits:]
        if "1" in first and "1" in second:
            return first, second


class BinaryMultiplication(BinaryAddition):
    """The product of two binary numbers, the lowest bit of each first.

        0 0 1 * 0 1 1 0 1        ->  0 0 0 1 1 0 1 . 0              4 * 22 = 88
        1 0 0 1 * 0 0 0 0 0 1    ->  0 0 0 0 0 1 0 0 1 . 0          9 * 32 = 288

    `length` is the number of input symbols, at least 3, and of output symbols. For lengths of 1 and 2, the authors'
    code gives an answer without meaning. All else is as in `BinaryAddition`: `padded`, distributions, and the source.
    """

    sign = "*"
    symbols = ("0", "1", sign, BinaryAddition.stop)
    carry = 0


class ComputeSqrt(AlgorithmicTask):
    """The square root of a binary number, rounded down, the highest bit of each first.

        1 0 0 1 0 1  ->  1 1 0    37, whose root is 6.08
        1 1 1        ->  1 0      7, whose root is 2.65

    `length` is the number of input symbols, at least 1; the output has half as many, rounded up. Both may start with
    zeros. All numbers of so many bits but 0 are equally likely.

    Source: Delétang et al. 2023, table 1; order of the bits and distribution from the authors' code.
    """

    symbols = ("0", "1")

    def example(self, length: int, generator: np.random.Generator) -> Example:
        bits = ""
        while "1" not in bits:
            bits = "".join(map(str, generator.integers(2, size=length).tolist()))
        root = math.isqrt(int(bits, 2))
        return Example(tuple(bits), tuple(f"{root:0{(length + 1) // 2}b}"))


class BucketSort(StringTask):
    """A random string in order.

        1 0 2 0 4 1 1 2  ->  0 0 1 1 1 2 2 4

    `length` is the number of input symbols, at least 1, and of output symbols.

    Symbols are ordered by their numbers; the paper has five.

    Source: Delétang et al. 2023, table 1.
    """

    num_symbols: AtLeastTwo = 5

    def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(string, key=int))
