"""Sorting of symbols."""

from poslab.data.algorithmic.strings import StringTask
from poslab.data.algorithmic.task import AtLeastTwo


class BucketSort(StringTask):
    """A random string in order.

        1 0 2 0 4 1 1 2  ->  0 0 1 1 1 2 2 4

    `length` is the number of input symbols, at least 1, and of output symbols.

    Args:
        num_symbols: different symbols, at least 2 (paper: 5); their order is that of their numbers.

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1.
    """

    num_symbols: AtLeastTwo = 5

    def output(self, string: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(string, key=int))
