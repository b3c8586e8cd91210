"""Rotary with learned frequencies (LeRoPE)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from poslab.arguments import Count, PositiveFraction
from poslab.encodings.frequencies import Base
from poslab.encodings.positions import Positions
from poslab.encodings.rotary.rotary import Layout, Rotary
from poslab.encodings.rotary.rotation import Rotation
from poslab.encodings.rotary.scalings import Scaling


class RotaryLearned(Rotary):
    """Rotary with learned frequencies (LeRoPE): each channel pair finds its own speed.

        logit(i, j) = q_i . R(j - i) k_j / sqrt(D),    R(p) rotates pair m by p theta'(m)
        theta'(m) = base ** (-2m / r) * exp(alpha_m)

    It begins as `Rotary` and is the same in all else. On one axis LieRE, ComRoPE, STRING and GRAPE-M without context
    reduce to it, since their changes of basis are absorbed by the projections to queries and keys.

    Use it when the best base is not known, and texts are as long as in training.

    Args:
        head_dim: head dimension D.
        base: frequency base of the initial values (above 1; Mistral Large 4: 10,000).
        fraction: share of the head that rotates, in (0, 1]. `fraction * D` must be even.
        layout: "half_split" or "interleaved", as in `Rotary`.
        scaling: as in `Rotary`. It acts on the learned frequencies; in transformers they are learned after it.
        sharing: "model" has one alpha for all layers and heads (paper), "layer" one for each layer.

    Parameters: `log_factor` alpha (r / 2), initially 0, without weight decay.

    Causal and bidirectional. Angles are float32 under bfloat16 weights too, but those round alpha. Costs as much as
    rotary, and in training the memory of the queries and keys, which are kept for the gradient of alpha.

    The paper reports 3% less compute for the same loss, nothing from an alpha for each layer or head, and worse
    extrapolation than rotary's unless YaRN scales what was learned.

    Trap: the gradient of alpha grows with the distances that attention reads. The authors clip it apart from the rest;
    here it is clipped with it, and learns at `optimizer.encoding_lr_multiplier` times the learning rate.

    Source: "LeRoPE" (arXiv 2607.10134, 2026); its use in Mistral Large 4, by the code of transformers.
    """

    def __init__(
        self,
        head_dim: Count,
        base: Base = 10_000.0,
        fraction: PositiveFraction = 1.0,
        layout: Layout = "half_split",
        scaling: Scaling | None = None,
        sharing: Literal["model", "layer"] = "model",
    ) -> None:
        super().__init__(head_dim, base, fraction, layout, scaling)
        self.shared_by_layers = sharing == "model"
        self.log_factor = nn.Parameter(torch.zeros(self.rotary_dim // 2))

    def learned(self) -> dict[str, Tensor]:
        return {"frequencies": self._unscaled(self.rotary_dim, self.log_factor.device)}

    def prepare(self, query_positions: Positions, key_positions: Positions) -> Rotation:
        # Only differences matter. The gradient of alpha far from 0 would be a difference of far larger numbers.
        origin = key_positions.ids[..., :1].sum(-1, keepdim=True)  # 0 without keys
        keys = replace(key_positions, ids=key_positions.ids - origin)
        same = query_positions is key_positions
        return super().prepare(keys if same else replace(query_positions, ids=query_positions.ids - origin), keys)

    def _unscaled(self, width: int, device: torch.device | None, dtype: torch.dtype = torch.float32) -> Tensor:
        frequencies = super()._unscaled(width, device, dtype)
        if "log_factor" not in self._parameters:  # while Rotary checks its arguments
            return frequencies
        return frequencies * self.log_factor.to(frequencies).exp()
