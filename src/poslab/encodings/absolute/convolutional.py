"""Convolutional positions. Dimension letters: B batch, T tokens, M model dim, G groups, K kernel, N places."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.arguments import NOT_HUGE, Count, Range
from poslab.encodings.base import PositionalEncoding
from poslab.encodings.positions import Positions
from poslab.encodings.tokens import PADDING, Tokens, read_number

Kernel = Annotated[int, Range(at_least=2), NOT_HUGE]
"""Number of tokens that a convolution reads."""


class Convolutional(PositionalEncoding):
    """Convolutional positions of wav2vec 2.0: each embedding gets a learned function of those around it.

        x_t = embedding_t + GELU(b + sum_k W_k embedding_{t + k - floor(K / 2)}),  W_k = g_k V_k / |V_k|

    for k from 0 to K - 1. W_k is made of G blocks along the diagonal, M / G wide; zeros pad the sequence.

    Use it when an encoder reads sound, or other tokens that are much alike where they are near: what is on either
    side is then as good as a position, and there is no length at which it ends.

    Args:
        d_model: width M.
        kernel_size: tokens K that are read, at least 2 (paper: 128, which are 2.5 seconds): K / 2 before a token,
            itself, and K / 2 - 1 after it; an odd number reads as many on both sides.
        groups: G, a divisor of M (paper: 16).

    Parameters: `direction` V (M, M / G, K), `magnitude` g (K) and `offset` b (M), once for the whole model. V is normal
    with variance 4 / (K M), g its norm, b 0, as in wav2vec 2.0.

    Only bidirectional, since a token reads those after it: for encoders. It reads the order in storage, on a grid row
    after row. Padding and registers are not read and get nothing, and a document of a packed row does not read another
    one. Costs K M / G products for each number of an embedding, once before the first layer.

    Traps: padding is known by the ids of `tokens`; without them no token is padding. A compiled graph breaks at packed
    documents. With K far above the length most of the kernel reads zeros: a token is then placed by its distance to
    either end, which other lengths change.

    Raises:
        ValueError: for an argument out of its range, groups that do not divide M, and documents of a packed row in a
            private step.

    Source: Baevski et al., "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations" (NeurIPS
    2020), section 2; Mohamed, Okhonko, Zettlemoyer, "Transformers with convolutional context for ASR" (2019).
    """

    bidirectional_only = True

    def __init__(self, d_model: Count, kernel_size: Kernel = 128, groups: Count = 16) -> None:
        super().__init__()
        if d_model % groups:
            raise ValueError(f"groups must divide d_model={d_model}, got {groups}")
        self.kernel_size, self.groups = kernel_size, groups
        self.direction = nn.Parameter(torch.empty(d_model, d_model // groups, kernel_size))
        nn.init.normal_(self.direction, std=2 * (kernel_size * d_model) ** -0.5)
        self.magnitude = nn.Parameter(self.direction.detach().norm(dim=(0, 1)))
        self.offset = nn.Parameter(torch.zeros(d_model))

    def embed(self, x_BTM: Tensor, positions: Positions, tokens: Tokens | None = None) -> Tensor:
        unread_BT1 = None  # padding, and tokens without a position
        if tokens is not None:
            unread_BT1 = (tokens.ids[:, -x_BTM.shape[1] :] == PADDING).unsqueeze(-1)
        elif positions.without_position is not None:
            unread_BT1 = torch.atleast_2d(positions.without_position).unsqueeze(-1)
        read_BTM = x_BTM if unread_BT1 is None else x_BTM.masked_fill(unread_BT1, 0)
        if positions.segments is None:
            added_BTM = self._convolved(read_BTM)
        else:
            # Indices of tokens in storage with a gap before each document but the first.
            segments, gap = positions.segments, self.kernel_size // 2
            begins_BT = functional.pad(segments[:, 1:] != segments[:, :-1], (1, 0))
            index_BT = torch.arange(segments.shape[1], device=segments.device) + gap * begins_BT.cumsum(1)
            index_BTM = index_BT.unsqueeze(-1).expand_as(x_BTM)
            last = read_number(index_BTM.max(), "dataset.document_boundaries must be false under Convolutional")
            gaps_BNM = x_BTM.new_zeros(len(x_BTM), last + 1, x_BTM.shape[-1])
            added_BTM = self._convolved(gaps_BNM.scatter(1, index_BTM, read_BTM)).gather(1, index_BTM)
        return x_BTM + (added_BTM if unread_BT1 is None else added_BTM.masked_fill(unread_BT1, 0)).to(x_BTM.dtype)

    def _convolved(self, x_BTM: Tensor) -> Tensor:
        """Return the activated convolution of embeddings, (B, T, M)."""
        direction = self.direction.to(torch.float32)
        weight = self.magnitude * direction / direction.norm(dim=(0, 1))
        before, after = self.kernel_size // 2, (self.kernel_size - 1) // 2
        padded_BMN = functional.pad(x_BTM.transpose(1, 2), (before, after))
        bias = self.offset.to(x_BTM.dtype)
        y_BMT = functional.conv1d(padded_BMN, weight.to(x_BTM.dtype), bias, groups=self.groups)
        return functional.gelu(y_BMT).transpose(1, 2)
