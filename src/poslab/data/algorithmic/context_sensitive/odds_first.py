"""The odd places of a string before the even ones."""

from poslab.data.algorithmic.strings import StringTask


class OddsFirst(StringTask):
    """The symbols of a random string at odd places, counted from 1, and then those at even places.

        0 0 1 1 0 1 0 1  ->  0 1 0 0 0 1 1 1    first, third, ..., then second, fourth, ...

    `length` is the number of input symbols, at least 1, and of output symbols.

    The paper and the docstrings of both of the authors' repositories have this order. Their code counts from 0, and
    gives the second, fourth, ... symbol first, which is equally hard.

    Args:
        num_symbols: different symbols, at least 2 (paper: 2).

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1.
    """

    def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
        return string[::2] + string[1::2]
