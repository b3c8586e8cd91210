from __future__ import annotations

from torch import nn

from poslab.encodings.positions import Positions


class PositionSampler(nn.Module):
    """Tells tokens that they are elsewhere: in training, or always, as its mode (`train`, `eval`) and class say.

    Queries and keys of a forward pass share one draw. Documents of a packed row share it too. Decoding with a cache
    goes on one by one from where its first tokens were.
    """

    max_length: int | None = None
    """The longest text that it has positions for; None if it never ends."""

    def forward(self, positions: Positions, batch_size: int) -> Positions:
        """Other positions for the same tokens, (B, T) or (T,).

        Args:
            positions: where the tokens are, counted from 0 in each document.
            batch_size: rows B of the batch.
        """
        raise NotImplementedError

    def stop(self, length: int) -> int:
        """A number that every id drawn for texts of `length` tokens is below."""
        raise NotImplementedError
