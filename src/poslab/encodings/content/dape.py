"""DAPE: a static bias corrected by the content of queries and keys.

Dimension letters: B batch, H heads, R query rows, S keys, D head dim, C channels, E mixed channels, K kernel size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.arguments import Count
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.bias.kerple import KerpleLog
from poslab.encodings.positions import Positions
from poslab.encodings.shape import StackShape


class _AttentionMap(PositionalEncoding):
    """Base class of DAPE and its second version: f processes the logits of all heads as an image."""

    shared_by_layers = False

    def __init__(
        self, shape: StackShape, over: Callable[..., PositionalEncoding], width: int, kernel_size: int
    ) -> None:
        super().__init__()
        self.over = shape.fill(over, "over")
        if more := sorted(self.over.hooks - {"bias", "pair_bias"}):
            name = type(self.over).__name__
            raise ValueError(f"over must only add a bias to the logits, got {name}, which has {', '.join(more)}")
        self.causal_only = self.over.causal_only
        self.relative = self.over.relative
        self.depends_on_length = self.over.depends_on_length
        self.reads_axes = self.over.reads_axes
        self.fits_grids = self.over.fits_grids
        self.max_length = self.over.max_length
        inputs = 2 * shape.num_heads
        self.hidden_weight = nn.Parameter(torch.empty(width, inputs, kernel_size))
        self.hidden_bias = nn.Parameter(torch.empty(width))
        self.output_weight = nn.Parameter(torch.empty(shape.num_heads, width, kernel_size))
        # The initial ranges of linear layers and convolutions.
        parameters = (self.hidden_weight, self.hidden_bias, self.output_weight)
        for parameter, channels in zip(parameters, (inputs, inputs, width), strict=True):
            limit = (channels * kernel_size) ** -0.5
            nn.init.uniform_(parameter, -limit, limit)

    def prepare(self, query_positions: Positions, key_positions: Positions) -> Any:
        return self.over.prepare(query_positions, key_positions)

    def logits(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        content_BHRS = super().logits(q_BHRD, k_BHSD, rows)
        bias_BHRS = self._static_bias(content_BHRS, rows)
        both_BCRS = torch.cat([content_BHRS, bias_BHRS], dim=1)
        return content_BHRS + bias_BHRS + self._correction(both_BCRS, rows.visible)

    def _static_bias(self, content_BHRS: Tensor, rows: QueryRows) -> Tensor:
        """Return B, as large as A."""
        bias: Tensor | None = self.over.pair_bias(rows)
        table = self.over.bias(rows.tables)
        if table is not None:
            matrix = table.matrix(rows.rows, rows.keys)
            bias = matrix if bias is None else bias + matrix
        if bias is None:
            return torch.zeros_like(content_BHRS)
        return bias.to(content_BHRS.dtype).expand_as(content_BHRS)

    def _correction(self, both_BCRS: Tensor, visible: Tensor | None) -> Tensor:
        """Return f([A; B]), of which each layer reads only the visible keys."""
        hidden = _mix(_seen(both_BCRS, visible), self.hidden_weight)
        hidden = functional.leaky_relu(hidden + self.hidden_bias.to(both_BCRS.dtype)[:, None, None])
        return _mix(_seen(hidden, visible), self.output_weight)


class Dape(_AttentionMap):
    """DAPE: a small MLP over the heads corrects a static bias by the content of queries and keys.

        logit(i, j) = A + B + f([A; B])    at each (i, j), for all H heads at once
        A = q_i . k_j / sqrt(D),  B the bias of another encoding,  f: 2H -> width -> H, LeakyReLU(0.01) between

    Use it when quality at and beyond the training length matters more than the time of a step.

    Args:
        shape: stack that it is for.
        over: factory of the encoding with bias B, which must do nothing else (paper: KERPLE's logarithm, ALiBi and
            FIRE). No position is B = 0.
        width: hidden units (paper: 32; at least 1), usually 16 to 64.

    Parameters, for each layer its own, in addition to `over`'s: `hidden_weight` (width, 2H, 1), `hidden_bias`
    (width,), `output_weight` (H, width, 1). Causal in the paper; here whatever `over` is. Claimed to extrapolate
    further than the bias does. Time: f at each query and key, about 3H * width * T * S operations; memory: 2H + width
    numbers for each key and each query of a block.

    Traps: A is scaled before f reads it. The output of f has no bias, unlike in the authors' code: it would add one
    number to all logits of a head, which a softmax ignores. CAPE, its first name, is also the name of another encoding.

    Raises:
        ValueError: for an argument out of its range, or an `over` that does more than add a bias.

    Source: Zheng et al., "DAPE: Data-Adaptive Positional Encoding for Length Extrapolation" (NeurIPS 2024), section 3;
    LeakyReLU as in the authors' code.
    """

    def __init__(
        self, shape: StackShape, over: Callable[..., PositionalEncoding] = KerpleLog, width: Count = 32
    ) -> None:
        super().__init__(shape, over, width, kernel_size=1)


class DapeV2(_AttentionMap):
    """DAPE v2: DAPE with an f that also reads the logits of neighbouring keys.

        logit(i, j) = A + B + f([A; B])    with both layers of f convolutions along keys, 1 x kernel_size

    Use it when DAPE fits, and logits of neighbouring keys should be read together, as in copying and retrieval.

    Args:
        shape, over, width: as in `Dape`.
        kernel_size: keys that a layer of f reads at once, with j in the middle (paper: 3; odd, at least 1; 1 is DAPE).

    Parameters, for each layer its own: `hidden_weight` (width, 2H, kernel_size), `hidden_bias` (width,),
    `output_weight` (H, width, kernel_size), and of `over`. Causal in the paper; here whatever `over` is. Claimed
    to extrapolate further than DAPE. Time is kernel_size times DAPE's, memory about the same.

    Neighbours are those in storage; keys that the query does not see are 0 to both layers, as past the ends. The
    authors' code blanks them at the first layer only, so that its second reads a hidden unit (computed from the last
    visible keys) one position past the query, which does not exist in a decoding step. With both blank, a query has the
    same logits whatever follows it, and wherever its document is.

    Raises:
        ValueError: for an argument out of its range, or an `over` that does more than add a bias.

    Source: Zheng et al., "DAPE V2: Process Attention Score as Feature Map for Length Extrapolation" (2024).
    """

    def __init__(
        self,
        shape: StackShape,
        over: Callable[..., PositionalEncoding] = KerpleLog,
        width: Count = 32,
        kernel_size: Count = 3,
    ) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be a positive odd integer, got {kernel_size}")
        super().__init__(shape, over, width, kernel_size)


def _seen(x_BCRS: Tensor, visible: Tensor | None) -> Tensor:
    """Set x to zero at the keys that a query does not see."""
    return x_BCRS if visible is None else x_BCRS.masked_fill(~visible, 0.0)


def _mix(x_BCRS: Tensor, weight_ECK: Tensor) -> Tensor:
    """Convolve along keys, from C channels to E, with zeros past the ends."""
    # Not `conv2d`, which a GPU runs in TF32 by default. Keys are shifted on the side that has fewer channels.
    width, channels, kernel_size = weight_ECK.shape
    weight_ECK, lags = weight_ECK.to(x_BCRS.dtype), range(-(kernel_size // 2), kernel_size // 2 + 1)
    if channels <= width:
        shifted = torch.cat([_shifted(x_BCRS, lag) for lag in lags], dim=1) if kernel_size > 1 else x_BCRS
        return _product(weight_ECK.mT.flatten(1), shifted)
    products = _product(weight_ECK.movedim(-1, 0).flatten(0, 1), x_BCRS).split(width, dim=1)
    first, *others = (_shifted(product, lag) for product, lag in zip(products, lags, strict=True))
    return sum(others, first)


def _product(weight_EC: Tensor, x_BCRS: Tensor) -> Tensor:
    """Mix the channels at each query and key."""
    return torch.bmm(weight_EC.expand(len(x_BCRS), -1, -1), x_BCRS.flatten(2)).unflatten(2, x_BCRS.shape[2:])


def _shifted(x_BCRS: Tensor, lag: int) -> Tensor:
    """Move x by `lag` keys towards the first, with zeros past the ends."""
    return functional.pad(x_BCRS, (-lag, lag)) if abs(lag) < x_BCRS.shape[-1] else torch.zeros_like(x_BCRS)
