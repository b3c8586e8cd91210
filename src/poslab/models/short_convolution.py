"""Short causal convolution (Canon). Dimension letters: B batch, T new tokens, S with those before, M model dim."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.attention import AttentionContext

WIDTH = 4
"""Tokens that a convolution reads, the current one included (paper: 4)."""


class ShortConvolution(nn.Module):
    """Causal convolution of each channel over the last tokens, added to its input (a Canon layer).

        y_t = x_t + sum over l from 0 to 3 of w_l * x_(t - l)

    Tokens of another document and padding count as zero. The weights w_l, one for each channel, are 0 at first, so that
    a model begins as without them; the paper draws them at random.

    Args:
        d_model: width M.
        name: name under which a cache keeps its last inputs.

    Parameters: `weight` (4, M). Costs four products for each number, and a cache of three tokens.

    Source: Allen-Zhu, "Physics of Language Models: Part 4.1, Architecture Design and the Magic of Canon Layers" (2025).
    """

    def __init__(self, d_model: int, name: str) -> None:
        super().__init__()
        self.name = name
        self.weight = nn.Parameter(torch.zeros(WIDTH, d_model))

    def forward(self, x_BTM: Tensor, context: AttentionContext) -> Tensor:
        """Return the output, (B, T, M), for the new tokens of a context, whose cache gets their last inputs."""
        length, before = x_BTM.shape[1], WIDTH - 1
        real, segments = context.visibility.real_keys, context.key_positions.segments
        if real is not None:
            x_BTM = x_BTM.masked_fill(~real[:, -length:, None], 0.0)
        past = functional.pad(x_BTM[:, :0], (0, 0, before, 0))
        if context.cache is not None:
            past = context.cache.recurrent.get(self.name, past)
        known_BSM = torch.cat([past.to(x_BTM.dtype), x_BTM], dim=1)
        if context.cache is not None:
            context.cache.recurrent[self.name] = known_BSM[:, -before:]
        y_BTM = x_BTM + self.weight[0] * x_BTM
        for lag in range(1, WIDTH):
            earlier_BTM = known_BSM[:, before - lag : before - lag + length]
            if segments is not None:
                shifted = functional.pad(segments, (lag, 0), value=-1)[:, : segments.shape[1]]
                same = (segments == shifted)[:, -length:, None]
                earlier_BTM = earlier_BTM.masked_fill(~same, 0.0)
            y_BTM = y_BTM + self.weight[lag] * earlier_BTM
        return y_BTM
