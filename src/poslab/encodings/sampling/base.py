from __future__ import annotations

from typing import ClassVar

from torch import nn

from poslab.arguments import CheckedArguments
from poslab.encodings.positions import Positions


class PositionSampler(CheckedArguments, nn.Module):
    """Tells tokens that they are elsewhere: in training, or always, as its mode (`train`, `eval`) and class say.

    Queries and keys of a forward pass share one draw, in all layers. A draw says for each position of a row where it
    is now, so documents of a packed row share it too, and so do tokens that stand at the same position, such as
    padding. Decoding with a cache goes on one by one from where its first tokens were.

    In training it draws from torch's global generator of the device of the positions, which the training loop seeds
    anew in every step. In evaluation nothing is drawn from it: the same batch has the same positions, whatever came
    before.
    """

    real: ClassVar[bool] = False
    """Whether it draws real numbers, which not every encoding takes."""

    max_length: int | None = None
    """The longest text that it has positions for; None if it never ends."""

    def forward(self, positions: Positions, batch_size: int) -> Positions:
        """Other positions for the same tokens, (B, T) or (T,), integer or real.

        Args:
            positions: where the tokens are, integers, counted from 0 in each document.
            batch_size: rows B of the batch.
        """
        raise NotImplementedError

    def stop(self, length: int) -> int:
        """A number that every id drawn for texts of `length` tokens is below, in training and in evaluation."""
        raise NotImplementedError
