"""Tasks of recalling something from anywhere in the input."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, cycle, islice, repeat
from string import ascii_lowercase
from typing import Annotated

import numpy as np

from poslab.arguments import Range
from poslab.data.algorithmic.examples import BLANK, AlgorithmicTask, AtLeastOne, AtLeastTwo, Example, draw, numbered

SET, INCREMENT, PASS = 1, 7, 50  # the odds of the three statements of `Counting`
SENTENCES = "the path goes on . the wind is cold . the hills are far away . we walk and we rest and we walk again ."


class Passkey(AlgorithmicTask):
    """A random number among sentences that repeat, after a mark that ends the input.

        the path goes passkey 5 8 2 1 3 the path passkey  ->  5 8 2 1 3

    `length` is the number of input symbols, at least `digits` + 2; the output has `digits`. All positions of the number
    are equally likely, and the sentences restart after it. The length changes how much text surrounds the number,
    and how far away it can be.

    Args:
        digits: of the number, at least 1, all equally likely (the paper's numbers go up to 50,000).

    Source: Mohtashami and Jaggi, "Landmark Attention" (NeurIPS 2023), section 4.2, with other
    sentences, and a mark instead of the question.
    """

    symbols = (*numbered(10), *dict.fromkeys(SENTENCES.split()), "passkey")

    digits: AtLeastOne = 5

    def has_length(self, length: int) -> bool:
        return length >= self.digits + 2

    def example(self, length: int, generator: np.random.Generator) -> Example:
        number = draw(numbered(10), self.digits, generator)
        room = length - self.digits - 2
        before = int(generator.integers(room + 1))
        return Example((*_sentences(before), "passkey", *number, *_sentences(room - before), "passkey"), number)


def _sentences(length: int) -> tuple[str, ...]:
    return tuple(islice(cycle(SENTENCES.split()), length))


class MultiKeyRetrieval(AlgorithmicTask):
    """The value of the key at the end, which is one of several pairs of key and value among random fillers.

        f3 k7 v0 f1 f1 k2 v5 f8 k7  ->  v0

    `length` is the number of input symbols, at least 2 `num_pairs` + 1; the output is one symbol. All positions of
    the pairs are equally likely, and so is each pair to be the answer. No key is in two pairs; values may be. The
    length changes how many fillers there are.

    Args:
        num_pairs: keys with values, 1 to `num_keys` (paper: 4).
        num_keys: different keys, at least 1.
        num_values: different values, at least 2.
        num_fillers: different fillers, at least 1.

    Source: Hsieh et al., "RULER" (COLM 2024), section 3.1, multi-key needle in a haystack, with symbols instead of its
    sentences, whose number the paper does not give.
    """

    num_pairs: AtLeastOne = 4
    num_keys: AtLeastOne = 64
    num_values: AtLeastTwo = 64
    num_fillers: AtLeastOne = 16

    def __post_init__(self) -> None:
        if self.num_pairs > self.num_keys:
            raise ValueError(f"num_pairs must be at most num_keys={self.num_keys}, got {self.num_pairs}")

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(self.num_keys, "k"), *numbered(self.num_values, "v"), *numbered(self.num_fillers, "f")

    def has_length(self, length: int) -> bool:
        return length >= 2 * self.num_pairs + 1

    def example(self, length: int, generator: np.random.Generator) -> Example:
        keys = [f"k{n}" for n in generator.choice(self.num_keys, self.num_pairs, replace=False).tolist()]
        values = draw(numbered(self.num_values, "v"), self.num_pairs, generator)
        # Among fillers and pairs, each of which counts as one part.
        num_parts = length - 1 - self.num_pairs
        positions = np.sort(generator.choice(num_parts, self.num_pairs, replace=False)).tolist()
        fillers = draw(numbered(self.num_fillers, "f"), num_parts - self.num_pairs, generator)
        question: list[str] = []
        taken = 0
        for count, (position, key, value) in enumerate(zip(positions, keys, values, strict=True)):
            question += [*fillers[taken : position - count], key, value]
            taken = position - count
        asked = int(generator.integers(self.num_pairs))
        return Example((*question, *fillers[taken:], keys[asked]), (values[asked],))


class MultiQueryRecall(AlgorithmicTask):
    """The values of keys, which come in pairs and then once more in any order, with gaps: values in that order (MQAR).

        k1 v8 k4 v7 . . k4 . . . . . k1 . .  ->  v7 v8

    `length` is the number of input symbols, at least 4 `num_pairs`; the output has `num_pairs`. Keys are different from
    each other, and so are values. A query follows the pairs after an even number of symbols 2 g; the probability of
    each g that is left is proportional to (g + 1) ** (power - 1): small ones are more frequent, as words repeat in
    texts. The length changes how far the queries are from the pairs.

    The authors predict a value where its key comes again; here all values follow the input, in the order of the
    queries. An odd length, which they do not have, ends in one more filler. In their figure 2, lengths of 64, 128, 256
    and 512 have 4, 8, 16 and 64 pairs.

    Args:
        num_pairs: 1 to `num_keys` and `num_values` (the authors' code: 8).
        num_keys: different keys, at least 1 (paper: 4095, which makes 8192 symbols with values and filler).
        num_values: different values, at least 2 (paper: 4096).
        power: above 0 and at most 1 (paper: 0.01); 1 makes all positions equally likely.

    Source: Arora et al., "Zoology" (ICLR 2024), section 3 and figure 2; distributions from the authors' code, without
    its option of random symbols as fillers.
    """

    num_pairs: AtLeastOne = 8
    num_keys: AtLeastOne = 4095
    num_values: AtLeastTwo = 4096
    power: Annotated[float, Range(above=0, at_most=1)] = 0.01

    def __post_init__(self) -> None:
        if self.num_pairs > (most := min(self.num_keys, self.num_values)):
            raise ValueError(f"num_pairs must be at most num_keys and num_values, {most}, got {self.num_pairs}")

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(self.num_keys, "k"), *numbered(self.num_values, "v"), "."

    def has_length(self, length: int) -> bool:
        return length >= 4 * self.num_pairs

    def example(self, length: int, generator: np.random.Generator) -> Example:
        keys = [f"k{n}" for n in generator.choice(self.num_keys, self.num_pairs, replace=False).tolist()]
        values = [f"v{n}" for n in generator.choice(self.num_values, self.num_pairs, replace=False).tolist()]
        string = ["."] * length
        pairs = 2 * self.num_pairs
        string[:pairs:2], string[1:pairs:2] = keys, values
        chances = _gap_probabilities((length - pairs) // 2, self.power)
        gaps = generator.choice(len(chances), self.num_pairs, replace=False, p=chances).tolist()
        for gap, key in zip(gaps, keys, strict=True):
            string[pairs + 2 * gap] = key
        return Example(tuple(string), tuple([value for _, value in sorted(zip(gaps, values, strict=True))]))


@lru_cache(maxsize=1024)
def _gap_probabilities(num_gaps: int, power: float) -> np.ndarray:
    weights = np.arange(1, num_gaps + 1) ** (power - 1.0)
    return weights / weights.sum()


class Induction(AlgorithmicTask):
    """The symbols after the first special symbol of a random string, which a second one ends.

        3 11 => 7 0 0 14 2 =>  ->  7

    `length` is the number of input symbols, at least `answer_length` + 2; the output has `answer_length`. All positions
    before that many symbols are equally likely for the first special symbol. The length changes how far away it can be.

    Args:
        num_symbols: different symbols, without the special one, at least 2 (paper: 15, which makes 16).
        answer_length: symbols to repeat, at least 1 (paper: 1).

    Source: Fu et al., "Hungry Hungry Hippos" (ICLR 2023), section 3.1; with 16 symbols and at many lengths, Gu and Dao,
    "Mamba" (2023), section 4.1.2.
    """

    num_symbols: AtLeastTwo = 15
    answer_length: AtLeastOne = 1

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(self.num_symbols), "=>"

    def has_length(self, length: int) -> bool:
        return length >= self.answer_length + 2

    def example(self, length: int, generator: np.random.Generator) -> Example:
        string = draw(numbered(self.num_symbols), length - 2, generator)
        position = int(generator.integers(length - 1 - self.answer_length))
        answer = string[position : position + self.answer_length]
        return Example((*string[:position], "=>", *string[position:], "=>"), answer)


class SelectiveCopying(AlgorithmicTask):
    """The symbols of the input that are not noise, in their order.

        . . 3 . 12 . . . 3 .  ->  3 12 3

    `length` is the number of input symbols, at least `num_data`; the output has `num_data`. All positions of the data
    are equally likely. The length changes how much noise there is. The authors' input ends in as many marks as there
    are data, each of which predicts one; here the answer is the output, without marks.

    Args:
        num_data: symbols that are not noise, at least 1 (paper: 16).
        num_symbols: different symbols that are not noise, at least 2 (paper: 14; with the noise and the mark, 16).

    Source: Gu and Dao, "Mamba" (2023), section 4.1.1, after Jing et al., "Gated Orthogonal Recurrent Units" (2019), the
    denoise task; the count of symbols from the code of "S4", on which the former builds.
    """

    num_data: AtLeastOne = 16
    num_symbols: AtLeastTwo = 14

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(self.num_symbols), "."

    def has_length(self, length: int) -> bool:
        return length >= self.num_data

    def example(self, length: int, generator: np.random.Generator) -> Example:
        data = draw(numbered(self.num_symbols), self.num_data, generator)
        positions = np.sort(generator.choice(length, self.num_data, replace=False)).tolist()
        string = ["."] * length
        for position, symbol in zip(positions, data, strict=True):
            string[position] = symbol
        return Example(tuple(string), data)


class FlipFlop(AlgorithmicTask):
    """The bit that was written last, at each read of a string of instructions, each with a bit.

        w 1 i 0 r __ w 0 i 1 i 1 r __  ->  1 0    the first read follows the write of 1, the second of 0

    The instructions are `w` (write), `r` (read) and `i` (ignore).

    `length` is the number of input symbols, an even number of at least 4. The first instruction is a write and the last
    a read. All others are drawn, with equal probabilities of write and read; bits after `w` and `i` are equally
    likely. The output fills the blanks, and nothing else is predicted. The length changes how far back the last write
    can be, and so does `p_ignore`.

    The papers train on strings of 512 symbols with `p_ignore` 0.8, and test on 0.8, on 0.98 (sparse: the last write is
    far away) and on 0.1 (dense).

    Args:
        p_ignore: probability of an ignore, 0 to 1 (papers: 0.8 in training).

    Source: Liu et al., "Exposing Attention Glitches with Flip-Flop Language Modeling" (NeurIPS 2023), FFL(T, p); with
    one layer of two heads, Yang et al., "PaTH Attention" (2025), table 1.
    """

    symbols = (*numbered(2), "w", "r", "i", BLANK)

    p_ignore: Annotated[float, Range(at_least=0, at_most=1)] = 0.8

    def has_length(self, length: int) -> bool:
        return length >= 4 and length % 2 == 0

    def example(self, length: int, generator: np.random.Generator) -> Example:
        p_read = (1 - self.p_ignore) / 2
        drawn = generator.choice(["i", "r", "w"], length // 2 - 2, p=[self.p_ignore, p_read, p_read]).tolist()
        bits = generator.integers(2, size=length // 2).tolist()
        memory = ""
        string: list[str] = []
        read: list[str] = []
        for instruction, bit in zip(["w", *drawn, "r"], bits, strict=True):
            if instruction == "r":
                read.append(memory)
                string += ["r", BLANK]
                continue
            string += [instruction, str(bit)]
            if instruction == "w":
                memory = str(bit)
        return Example(tuple(string), tuple(read))


class Counting(AlgorithmicTask):
    """The value of a variable after a program that sets variables to 0, increments them, and mostly does nothing.

        pass; b = 0 ; b ++; a = 0 ; pass; b ++; print b  ->  2
        a = 0 ; a ++; a = 0 ; pass; a ++; print a        ->  1

    `length` is the number of input symbols, at least 6; the output is one symbol. A statement is `pass;` 50 times in
    58, an increment of a variable that has a value 7 times, and `a = 0 ;` once. All variables are equally likely, in
    the question among those that have a value. A statement is drawn again where it cannot be (an increment without a
    variable, or beyond `largest`) or does not fit into the length, and the whole program where it sets no variable.

    The authors draw a number of statements, 3 to 512, where a length here is of symbols: there are 1.17 in a statement
    on average. They cut off the beginning of programs of more than 512 symbols, with which an assignment may be lost.

    Args:
        num_variables: variables, from `a` on (paper: 1, 3 and 5).
        largest: the largest value (the authors' code: 10).

    Source: Golovneva et al., "Contextual Position Encoding" (2024), the counting task; distributions from the authors'
    code.
    """

    shortest = 6

    num_variables: Annotated[int, Range(at_least=1, at_most=26)] = 3
    largest: Annotated[int, Range(at_least=1, at_most=1000)] = 10

    @property
    def variables(self) -> str:
        """The names of variables."""
        return ascii_lowercase[: self.num_variables]

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(self.largest + 1), *self.variables, "=", ";", "++;", "pass;", "print"

    def example(self, length: int, generator: np.random.Generator) -> Example:
        # Drawn one at a time, they would cost a microsecond each.
        chances = chain.from_iterable(generator.random(64).tolist() for _ in repeat(None))
        values: dict[str, int] = {}
        while not values:
            program, values = self._program(length - 2, chances)
        asked = _pick([*values], chances)
        return Example((*program, "print", asked), (str(values[asked]),))

    def _program(self, length: int, chances: Iterator[float]) -> tuple[list[str], dict[str, int]]:
        """Draw a program of so many symbols; return it with the values of its variables."""
        program: list[str] = []
        values: dict[str, int] = {}
        while (room := length - len(program)) > 0:
            chance = next(chances) * (SET + INCREMENT + PASS)
            if chance < PASS:
                program.append("pass;")
            elif chance < PASS + INCREMENT:
                variable = _pick([*values], chances) if values else None
                if variable and values[variable] < self.largest and room >= 2:
                    values[variable] += 1
                    program += [variable, "++;"]
            elif room >= 4:
                variable = _pick(self.variables, chances)
                values[variable] = 0
                program += [variable, "=", "0", ";"]
        return program, values


def _pick(names: str | list[str], chances: Iterator[float]) -> str:
    return names[int(next(chances) * len(names))]
