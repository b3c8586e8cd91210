"""Actions on a stack."""

import numpy as np

from poslab.data.algorithmic.strings import draw
from poslab.data.algorithmic.task import AlgorithmicTask, Example

ACTIONS = ("POP", "PUSH0", "PUSH1")


class StackManipulation(AlgorithmicTask):
    """The contents of a stack after some actions, from the top down; the input gives it from the bottom up.

        0 1 1 0 PUSH1 POP POP  ->  1 1 0 . 0 0 0 0    0 1 1 is left
        1 1 0 POP POP POP      ->  . 0 0 0 0 0 0      nothing is left

    POP leaves an empty stack as it is. A stop ends the output, and zeros fill it up: it is equally long for all inputs
    of a length, and does not reveal how much is left. Accuracy leaves out what follows the stop and the loss counts it,
    as the authors' do.

    `length` is the number of input symbols, at least 1; the output has one more. All heights of the stack from 1 to
    `length` - 1 are equally likely, as are all symbols and all actions. A length of 1 has no action.

    Args:
        padded: whether zeros follow the stop (paper: they do). A decoder needs none.

    Source: Delétang et al., "Neural Networks and the Chomsky Hierarchy" (ICLR 2023), table 1; distributions and padding
    from the authors' code.
    """

    stop = "."
    symbols = ("0", "1", *ACTIONS, stop)

    padded: bool = True

    def example(self, length: int, generator: np.random.Generator) -> Example:
        height = int(generator.integers(1, length)) if length > 1 else 1
        bottom_up = draw(("0", "1"), height, generator)
        actions = draw(ACTIONS, length - height, generator)
        stack = list(bottom_up)
        for action in actions:
            if action != "POP":
                stack.append(action[-1])
            elif stack:
                stack.pop()
        output = (*reversed(stack), self.stop)
        zeros = ("0",) * (length + 1 - len(output) if self.padded else 0)
        return Example(bottom_up + actions, output + zeros)
