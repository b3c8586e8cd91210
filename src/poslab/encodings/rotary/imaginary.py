"""Rotary with imaginary heads (RoPE++)."""

from __future__ import annotations

import torch
from torch import Tensor

from poslab.arguments import Count, PositiveFraction
from poslab.encodings.frequencies import Base
from poslab.encodings.positions import Positions
from poslab.encodings.rotary.rotary import Layout, Rotary
from poslab.encodings.rotary.rotation import Rotation
from poslab.encodings.rotary.scalings import Scaling


class RoPEPlusPlus(Rotary):
    """RoPE++: rotary that also gives attention the imaginary part of the product, in every second head.

        logit_2h(i, j) = Re z / sqrt(D),    logit_2h+1(i, j) = Im z / sqrt(D)
        z = sum over pairs m of q_m conj(k_m) exp(i (i - j) theta_m)

    with each pair of channels as a complex number: in every second head, queries rotate a further -90 degrees. The
    imaginary part of a query and an equal key is 0 at distance 0, and is positive up to longer distances than the real
    one.

    Use it when a rotary model should also look far, with `model.shared_query=true`, where heads 2h and 2h + 1 share
    their query, and `model.num_kv_heads` of at most half of the heads, so that they share keys and values: they then
    differ only by this. Otherwise it is `Rotary` with other initial weights, since projections to queries absorb a
    turn.

    Args:
        head_dim: head dimension D.
        num_heads: heads H, even. The paper's form of equal heads has the heads of the model without it, its form of an
            equal cache twice as many.
        base, fraction, layout, scaling: as in `Rotary`. Channels that do not rotate are alike in both heads.

    Causal and bidirectional. No parameters. Costs what rotary costs, and tables for the queries of each head.

    Source: "Beyond Real: Imaginary Extension of Rotary Position Embeddings for Long-Context LLMs" (arXiv 2512.07525,
    2025).
    """

    def __init__(
        self,
        head_dim: Count,
        num_heads: Count,
        base: Base = 10_000.0,
        fraction: PositiveFraction = 1.0,
        layout: Layout = "half_split",
        scaling: Scaling | None = None,
    ) -> None:
        super().__init__(head_dim, base, fraction, layout, scaling)
        if num_heads % 2:
            raise ValueError(f"num_heads must be even under RoPE++, got {num_heads}")
        self.num_heads = num_heads

    def prepare(self, query_positions: Positions, key_positions: Positions) -> Rotation:
        tables = super().prepare(query_positions, key_positions)
        cos, sin = tables.query_cos, tables.query_sin
        return tables._replace(query_cos=self._of_heads(cos, sin), query_sin=self._of_heads(sin, -cos))

    def _of_heads(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """Return a table of all heads, (1 or B, H, T, r / 2), from the tables of its real and its imaginary ones."""
        real, imaginary = (x if x.dim() == 4 else x[None, None] for x in (real, imaginary))
        return torch.cat([real, imaginary], dim=1).repeat(1, self.num_heads // 2, 1, 1)
