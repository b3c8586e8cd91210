"""Contract of position samplers, and the default. Dimension letters: B batch, T tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from poslab.arguments import CheckedArguments
from poslab.encodings.positions import Positions

if TYPE_CHECKING:
    from poslab.encodings.base import PositionalEncoding


class PositionSampler(CheckedArguments, nn.Module):
    """Base class of samplers that move tokens to other positions, only in training or always.

    The mode (`train`, `eval`) and the class decide. Queries and keys of a forward pass share one draw, in all layers. A
    draw maps each position of a row to a new one, so documents of a packed row share it, and so do tokens at the same
    position, such as padding. Decoding with a cache continues one by one from where its first tokens were.

    In training it draws from torch's global generator of the device of the positions, which the training loop seeds
    again in every step. Evaluation draws nothing from it: the same batch always has the same positions. Every
    constructor raises ValueError for an argument out of its range.
    """

    real: ClassVar[bool] = False
    """True if it draws real numbers, which not every encoding accepts."""

    fits_grids: ClassVar[bool] = False
    """True if it fits the grid of each image to one range, as the encoding must not do once more."""

    reads_longest_row: ClassVar[bool] = False
    """True if, in training, the positions of a row depend on the longest row of its batch."""

    max_length: int | None = None
    """Longest text that it has positions for; None if there is no end."""

    bounded_by: ClassVar[str] = "max_length"
    """Name of the attribute that bounds the length of texts in training, as people type it."""

    def __init__(self) -> None:
        super().__init__()  # nn.Module's has any arguments, and a configuration would accept all of them

    def forward(self, positions: Positions, batch_size: int) -> Positions:
        """Return other positions for the same tokens of `batch_size` rows, (B, T) or (T,), integer or real.

        The given positions are integers, counted from 0 in each document.
        """
        raise NotImplementedError

    def stop(self, length: int) -> int:
        """Return an exclusive upper bound of the ids drawn for texts of `length` tokens, in training and evaluation."""
        raise NotImplementedError

    def check(self, encoding: PositionalEncoding) -> None:
        """Raise ValueError for an encoding that would fit grids once more."""
        if self.fits_grids and encoding.fits_grids:
            raise ValueError(
                f"positions must not be {type(self).__name__} under an encoding that fits its own grid to each "
                f"image, as {type(encoding).__name__} does: choose contiguous"
            )

    def refuse_places(self, positions: Positions) -> None:
        """Raise ValueError for tokens that have places, which a sampler of their order in storage would not move."""
        if positions.places is not None:
            raise ValueError(
                f"positions must not be {type(self).__name__} for tokens with several axes, as patches have: "
                "it moves their order only in storage; choose contiguous, centred or mrope"
            )


class Contiguous(PositionSampler):
    """Positions as they are: 0, 1, 2, ... in each document.

        p' = p

    The default. Costs nothing.
    """

    def forward(self, positions: Positions, batch_size: int) -> Positions:
        return positions

    def stop(self, length: int) -> int:
        return length
