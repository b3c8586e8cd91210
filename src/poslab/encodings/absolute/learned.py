"""Learned absolute positions. Dimension letters: B batch, T tokens, M model dim."""

from __future__ import annotations

from torch import Tensor, nn

from poslab.arguments import Count
from poslab.encodings.base import PositionalEncoding
from poslab.encodings.positions import Positions
from poslab.encodings.tokens import Tokens


class Learned(PositionalEncoding):
    """One trained vector per position, added to the token embeddings.

        x_p = embedding_p + W[p]

    Use it when no text is longer than `max_length`, as in BERT and GPT-2. It is undefined beyond.

    Args:
        d_model: width M.
        max_length: number of positions with a vector, at least 1 (BERT: 512, GPT-2: 1,024); none is defined past it.

    Parameters: `table.weight` (max_length, M), once for the whole model; normal with standard deviation 0.02.

    Causal and bidirectional. Ends at `max_length`: a vector past the training length stays as initialised unless a
    position sampler reaches it. Costs one look-up per token before the first layer, and max_length * M parameters.

    Slow to learn: at first nothing says that rows 5 and 6 are neighbours.

    Traps: integer positions only, since there is nothing between two rows. Rows are counted from 0: weights of BART and
    OPT, which begin at row 2, and RoBERTa, which begins after its padding id, must be shifted; x-transformers
    multiplies its table by M ** -0.5. Embeddings are not multiplied by sqrt(M) as for sinusoids: the table is as small.

    Raises:
        ValueError: for a `max_length` out of its range; for a position at or past it, or one that is not an integer.

    Source: Gehring et al., "Convolutional Sequence to Sequence Learning" (ICML 2017), section 3.1; used by BERT and
    GPT-2, the source of the initial standard deviation of 0.02.
    """

    relative = False

    def __init__(self, d_model: Count, max_length: Count = 512) -> None:
        super().__init__()
        self.max_length = max_length
        self.table = nn.Embedding(max_length, d_model)
        nn.init.normal_(self.table.weight, std=0.02)

    @property
    def rows(self) -> Tensor:
        return self.table.weight

    def embed(self, x_BTM: Tensor, positions: Positions, tokens: Tokens | None = None) -> Tensor:
        if positions.ids.is_floating_point():
            raise ValueError(
                "positions must be integers for learned positions, got real numbers: a table has nothing between its "
                "rows; choose positions that are integers, or another encoding"
            )
        positions.require_below(self.table.num_embeddings, "learned positions")
        return x_BTM + self.table(positions.ids).to(x_BTM.dtype)
