"""Chains of variables (LEGO)."""

from functools import cached_property
from string import ascii_lowercase

import numpy as np

from poslab.data.algorithmic.task import AlgorithmicTask, AtLeastTwo, Example


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

    Source: Zhang et al., "Unveiling Transformers with LEGO" (2022), section 2; in this form, Kazemnejad et al. (NeurIPS
    2023), table 1, and their code.
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
        assert self.has_length(length), "a length below 2 or above num_names"
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
