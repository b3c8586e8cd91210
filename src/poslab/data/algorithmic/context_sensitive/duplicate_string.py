"""Repetition of a string."""

from poslab.data.algorithmic.strings import StringTask
from poslab.data.algorithmic.task import AtLeastOne


class DuplicateString(StringTask):
    """A random string, twice.

        1 0 0  ->  1 0 0 1 0 0

    `length` is the number of input symbols, at least 1; the output has `num_copies` times as many.

    Args:
        num_symbols: different symbols, at least 2 (paper: 2).
        num_copies: copies of the input in the output, at least 1 (paper: 2).

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1.
    """

    num_copies: AtLeastOne = 2

    def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
        return string * self.num_copies
