"""RePo: positions that tokens choose by content.

Dimension letters: B batch, H query heads, G key-value heads, T tokens, P past tokens, R queries of a block, S keys,
D head dim, M model dim, E = 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.arguments import Count, Range, checked
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.frequencies import Base, angles, inverse_frequencies
from poslab.encodings.layers import LayerPattern
from poslab.encodings.numerics import float32_linear
from poslab.encodings.positions import Positions
from poslab.encodings.rotary.by_head import RotationByContent
from poslab.encodings.rotary.rotary import Rotary


class RePo(RotationByContent):
    """RePo in one layer: a rotation by positions that tokens choose by content.

        logit(i, j) = q_i . R(p(x_j) - p(x_i)) k_j / sqrt(D)
        p_h(x) = w_h . ( silu(W_g x) * (W_c x) )

    R(p) rotates pair m by `p * base ** (-2m / D)`, half-split, each key-value head by its own p: a real number of any
    sign, in no order. Nothing gives the position of a token, so other layers have to: see `repo`.

    Args:
        d_model, num_heads, num_kv_heads, head_dim: M, H, G and D.
        base: frequency base (paper: 500,000; above 1).
        width: rows of W_g and W_c; None is an eighth of M (paper).

    Parameters, each layer its own: `gate` and `content` (width, M), initially normal with standard deviation
    1 / sqrt(M), and `position` (G, width), with 1 / sqrt(width).

    Causal and bidirectional. A state is one number for each key-value head. Costs 2 M width for each token, then what
    rotary costs, on the same routes. No claim here beyond the training length.

    Source: "RePo: Language Models with Context Re-Positioning" (ICML 2026, arXiv 2512.14391), and its code, whose
    every query head has its own position; here, as they must meet their keys, the heads of a group share one.
    """

    def __init__(
        self,
        d_model: Count,
        num_heads: Count,
        num_kv_heads: Count,
        head_dim: Count,
        base: Base = 500_000.0,
        width: Count | None = None,
    ) -> None:
        super().__init__(num_heads, num_kv_heads, head_dim)
        self.base = base
        width = width or max(1, d_model // 8)
        self.gate = nn.Parameter(torch.randn(width, d_model) * d_model**-0.5)
        self.content = nn.Parameter(torch.randn(width, d_model) * d_model**-0.5)
        self.position = nn.Parameter(torch.randn(num_kv_heads, width) * width**-0.5)

    def state(self, x_BTM: Tensor, positions: Positions, past_BHPE: Tensor | None) -> Tensor:
        """Return the position of each new token in each key-value head."""
        gated_BTW = functional.silu(float32_linear(x_BTM, self.gate)) * float32_linear(x_BTM, self.content)
        return float32_linear(gated_BTW, self.position).mT.unsqueeze(-1)

    def angles(self, state_BGTE: Tensor) -> Tensor:
        return angles(state_BGTE.squeeze(-1), inverse_frequencies(self.head_dim, self.base, state_BGTE.device))

    def content_positions(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        """Return the distance between the positions of queries and keys, at least 0."""
        assert rows.query_state is not None and rows.key_state is not None
        distance_BGRS = (rows.query_state - rows.key_state.mT).abs()
        return distance_BGRS.repeat_interleave(self.group, dim=1)


@checked
def repo(
    every: Annotated[int, Range(at_least=2), Range(at_most=1000)] = 3,
    base: Base = 500_000.0,
    width: Count | None = None,
) -> LayerPattern:
    """Return layers whose tokens choose their positions by content and, every nth, a rotary layer (RePo).

        logit(i, j) = q_i . R(p(x_j) - p(x_i)) k_j / sqrt(D),    p_h(x) = w_h . ( silu(W_g x) * (W_c x) )

    The first layer is rotary, since tokens do not know their position before: content has no order.

    Use it when texts have parts that belong together at any distance, or noise between them.

    Args:
        every: n, at least 2; the first of n layers is rotary. A pattern repeats; in the authors' models the first
            third of the layers is rotary, and no other.
        base: frequency base of all layers (above 1; paper: 500,000).
        width: inner width of the network for positions; None is an eighth of the model's.

    Parameters: as of `RePo` in its layers. Causal and bidirectional. Costs somewhat more than rotary, on the same
    routes. The paper claims better reading of noisy and structured contexts, and of some longer than in training.

    Trap: the input of a bfloat16 model is rounded, and with it each p, by about 1/400 of its size. Logits of unit
    variance are then off by about 0.005 where p is of the order of 10, and by about 0.05 where it is about 100,
    twenty times as much as rounded queries and keys are worth.

    Source: "RePo: Language Models with Context Re-Positioning" (ICML 2026, arXiv 2512.14391).
    """
    by_content: Callable[..., PositionalEncoding] = partial(RePo, base=base, width=width)
    return LayerPattern([partial(Rotary, base=base), *[by_content] * (every - 1)])
