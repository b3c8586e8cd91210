"""Stick-breaking attention weights. Dimension letters: B batch, H heads, R queries of a block, S keys, D head dim."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from poslab.encodings.base import PositionalEncoding, QueryRows


class StickBreaking(PositionalEncoding):
    """Stick-breaking attention: from the query backwards, each key takes a share of the stick that is left.

        weight(i, j) = beta_ij * (1 - beta_i,j+1) * ... * (1 - beta_i,i-1),    j < i
        beta_ij = sigmoid(q_i . k_j / sqrt(D))

    It replaces the softmax and contains position: of equal keys the nearest has the most, 1/2, 1/4, 1/8 where all
    logits are 0. Weights are not normalised; the rest of the stick is dropped.

    Use it when a decoder should prefer the most recent match, such as the last value of a variable. It replaces the
    softmax.

    Args:
        attend_current: True if the query's own key comes first, j <= i (paper: false).

    No parameters. Causal. The paper claims better perplexity and retrieval beyond the training length than rotary.
    Costs a cumulative sum over keys for each query.

    Traps: without its own key, the first token of a text, and any other that sees nothing before it, gets exactly zero
    from attention. Weights sum to less than 1, so there is no attention sink, and no temperature, which is for a
    softmax. Computed in log space, since the product of many factors would underflow. The authors' training code (IBM's
    dolomite-engine) by default adds the rest of the stick times the query's own value; flash-linear-attention returns
    the rest next to the output and adds nothing, as here.

    Source: Tan et al., "Scaling Stick-Breaking Attention: An Efficient Implementation and In-depth Study" (ICLR 2025),
    section 2.
    """

    causal_only = True

    def __init__(self, attend_current: bool = False) -> None:
        super().__init__()
        self.attend_current = attend_current

    def logits(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        """Return the scaled products; a query's own key is out of reach unless it is attended."""
        logits_BHRS = super().logits(q_BHRD, k_BHSD, rows)
        if self.attend_current:
            return logits_BHRS
        # The place of a query in storage is known only here. A finite logit has finite gradients, and its share is 0.
        is_query = torch.zeros(logits_BHRS.shape[-2:], dtype=torch.bool, device=logits_BHRS.device)
        is_query.diagonal(rows.first_key).fill_(True)
        return logits_BHRS.masked_fill(is_query, torch.finfo(logits_BHRS.dtype).min)

    def weights(self, logits_BHRS: Tensor, visible: Tensor | None) -> Tensor:
        """Return the share of each key; a key that is not visible takes nothing of the stick."""
        left_BHRS = functional.logsigmoid(-logits_BHRS)
        if visible is not None:
            left_BHRS = left_BHRS.masked_fill(~visible, 0.0)
        # Summed from the near end and shifted by one key: what is left when a key's turn comes.
        left_BHRS = functional.pad(left_BHRS.flip(-1).cumsum(-1).flip(-1)[..., 1:], (0, 1))
        shares_BHRS = (functional.logsigmoid(logits_BHRS) + left_BHRS).exp()
        return shares_BHRS if visible is None else shares_BHRS.masked_fill(~visible, 0.0)
