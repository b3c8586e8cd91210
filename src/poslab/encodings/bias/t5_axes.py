"""T5's relative bias on several axes. Dimension letters: A axes, H heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poslab.arguments import Count
from poslab.encodings.bias.distance_bias import OffsetBias
from poslab.encodings.bias.t5 import check_buckets, distance_buckets


class T5Axes(OffsetBias):
    """T5's relative bias on several axes: one learned number per head, axis and bucket of distances, summed over axes.

        logit(i, j) = q_i . k_j / sqrt(D) + sqrt(D) * sum_a table_a[bucket(i_a - j_a), h]

    Buckets and the factor sqrt(D) are as in `T5Bias`, with half of the buckets for keys ahead on the axis.

    Use it when patches, or words on a page, should attend by rows and columns, and images may be larger than in
    training.

    Args:
        num_heads, head_dim: heads H and head dimension D.
        num_axes: number of axes A (2 for images; at least 1).
        num_buckets: number of buckets of each axis (paper: 64; a multiple of 4).
        max_distance: end of the logarithmic buckets, past the start of the last (paper: 256; above num_buckets / 4).

    Parameters: `table` (A, num_buckets, H), one for all layers of a stack. Initial standard deviation
    1 / sqrt(d_model), as in `T5Bias`.

    Causal and bidirectional; both directions have buckets in a decoder too, since a patch may be to the right of one
    that is later in storage. The bias is constant past the last bucket of an axis. A text is at the same number on
    every axis, so that it has the sum of the tables. A token without a position has no bias. Costs a number for each
    offset that occurs and head, and its gradient.

    Traps: a sum over axes is less than a table of offsets (`RelativeTable`): what a head prefers in a row, it prefers
    in every row. LayoutLMv3 counts key minus query, adds T5's bias of the order in storage, and divides all by
    sqrt(D); its axes are the left and lower edges of words, in thousandths of the page.

    Source: Xu et al., "LayoutLMv2" (ACL 2021), section 2.2, and Huang et al., "LayoutLMv3" (ACM MM 2022), whose
    code has 64 buckets to 256.
    """

    def __init__(
        self,
        num_heads: Count,
        head_dim: Count,
        d_model: Count,
        num_axes: Count = 2,
        num_buckets: Count = 64,
        max_distance: Count = 256,
    ) -> None:
        super().__init__(num_axes)
        check_buckets(False, num_buckets, max_distance)
        self.num_buckets, self.max_distance = num_buckets, max_distance
        self.logit_scale = head_dim**0.5
        self.table = nn.Parameter(torch.empty(num_axes, num_buckets, num_heads))
        nn.init.normal_(self.table, std=d_model**-0.5)

    def bias_of(self, offset: Tensor) -> Tensor:
        buckets = distance_buckets(offset, False, self.num_buckets, self.max_distance)
        tables = self.table.to(torch.float32) * self.logit_scale
        # A look-up of embeddings sums the gradient of each bucket deterministically.
        looked_up = map(nn.functional.embedding, buckets.unbind(-1), tables)
        return torch.stack([x.movedim(-1, 0) for x in looked_up]).sum(0)
