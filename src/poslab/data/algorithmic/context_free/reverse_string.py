"""Reversal of a string."""

from poslab.data.algorithmic.strings import StringTask


class ReverseString(StringTask):
    """A random string backwards.

        0 1 1 0 1 0  ->  0 1 0 1 1 0

    `length` is the number of input symbols, at least 1, and of output symbols.

    Args:
        num_symbols: different symbols, at least 2 (paper: 2).

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1.
    """

    def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
        return string[::-1]
