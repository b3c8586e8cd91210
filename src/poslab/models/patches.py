"""Embedding of patches among other tokens. Dimension letters: B batch, T tokens, P numbers of a patch, M model dim."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poslab.encodings.tokens import PATCH


class PatchEmbedding(nn.Module):
    """Embeddings of tokens some of which are patches: `W patch + b` for a patch, the row of a table for any other.

    The weights of a patch of unit variance begin so that its embedding is as large as that of another token (standard
    deviation 0.02): an encoding that is mixed into embeddings then meets both alike.

    Args:
        width: number of values of a patch, P.
        d_model: width M.
    """

    def __init__(self, width: int, d_model: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, d_model)
        nn.init.normal_(self.projection.weight, std=0.02 * width**-0.5)
        nn.init.zeros_(self.projection.bias)

    def forward(self, tokens_BT: Tensor, patches_BTP: Tensor, table: nn.Embedding) -> Tensor:
        """Return the embeddings of all tokens, (B, T, M).

        Args:
            tokens_BT: ids, `PATCH` at patches; a negative one of any other token, such as padding, counts as 0.
            patches_BTP: values of the patches; not read elsewhere.
            table: embeddings of the other tokens.
        """
        projected_BTM = self.projection(patches_BTP.to(self.projection.weight.dtype))
        return torch.where((tokens_BT == PATCH).unsqueeze(-1), projected_BTM, table(tokens_BT.clamp_min(0)))
