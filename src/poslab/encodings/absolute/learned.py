from __future__ import annotations

from torch import Tensor, nn

from poslab.encodings.base import PositionalEncoding
from poslab.encodings.positions import Positions


class Learned(PositionalEncoding):
    """One trained vector per position, added to the token embeddings.

        x_p = embedding_p + W[p]

    Args:
        d_model: width M.
        max_length: the number of positions with a vector; the encoding is not defined past it.

    Parameters: `table.weight` (max_length, M), once for the whole model.

    Raises:
        ValueError: when asked for a position at or past `max_length`.

    Source: Gehring et al., "Convolutional Sequence to Sequence Learning" (ICML 2017), section 3.1; used by BERT and
    GPT-2, whose initial standard deviation of 0.02 it takes.
    """

    relative = False

    def __init__(self, d_model: int, max_length: int = 512) -> None:
        super().__init__()
        if max_length < 1:
            raise ValueError(f"max_length must be a positive integer, got {max_length}")
        self.max_length = max_length
        self.table = nn.Embedding(max_length, d_model)
        nn.init.normal_(self.table.weight, std=0.02)

    def embed(self, x_BTM: Tensor, positions: Positions, tokens_BT: Tensor | None = None) -> Tensor:
        if positions.stop > self.table.num_embeddings:
            raise ValueError(
                f"max_length={self.table.num_embeddings} learned positions end before position {positions.stop - 1}; "
                "train with a larger max_length, or choose an encoding without an end"
            )
        return x_BTM + self.table(positions.ids).to(x_BTM.dtype)
