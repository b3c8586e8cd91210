"""Steps on a circle."""

import numpy as np

from poslab.data.algorithmic.strings import draw, numbered
from poslab.data.algorithmic.task import AlgorithmicTask, AtLeastTwo, Example

MOVES = ("left", "stay", "right")


class CycleNavigation(AlgorithmicTask):
    """The last position of random steps on a circle that begin at position 0.

        right left stay left left  ->  3    -2 on a circle of five
        right right right left     ->  2

    `length` is the number of moves, at least 1, all equally likely. The output is one symbol, a position.

    Args:
        cycle_length: positions of the circle, at least 2 (paper: 5); `right` counts up.

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1, where the moves are the
    digits 1, 0 and 2.
    """

    cycle_length: AtLeastTwo = 5

    @property
    def symbols(self) -> tuple[str, ...]:
        return *numbered(self.cycle_length), *MOVES

    def example(self, length: int, generator: np.random.Generator) -> Example:
        moves = draw(MOVES, length, generator)
        position = (moves.count("right") - moves.count("left")) % self.cycle_length
        return Example(moves, (str(position),))
