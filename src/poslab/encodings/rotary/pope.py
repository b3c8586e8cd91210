"""PoPE: channels in polar coordinates. Dimension letters: B batch, H heads, T queries, S keys, D head dim."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.arguments import Count
from poslab.encodings.base import PositionalEncoding
from poslab.encodings.frequencies import Base, angle_dtype, angles, inverse_frequencies
from poslab.encodings.positions import Positions
from poslab.encodings.shape import TableShape


class Phases(NamedTuple):
    """Cosines and sines of queries, (H, T, D) or (B, H, T, D), and of keys, (S, D) or (B, 1, S, D), float32."""

    query_cos: Tensor
    query_sin: Tensor
    key_cos: Tensor
    key_sin: Tensor

    @property
    def expected_shape(self) -> TableShape:
        return TableShape.of(self.query_cos, self.key_cos)


class PoPE(PositionalEncoding):
    """Polar coordinate position embedding: content sets the magnitude of every channel, only position its phase.

        logit(i, j) = sum_c softplus(q_ic) * softplus(k_jc) * cos((j - i) * theta_c + delta_hc) / sqrt(D)
        theta_c = base ** (-c / D)

    over all channels c = 0, ..., D - 1. In rotary the phase also contains the angle of the content of a pair of
    channels, so that content shifts the position that is attended to; here only position rotates.

    Use it when what a token is and where it is should not mix: under a rotation, both decide the phase of a channel.

    Args:
        head_dim: head dimension D; odd ones too.
        num_heads: query heads H.
        base: frequency base (paper: 10,000; above 1).
        delta_init: "zero", better past the training length in the paper, or "uniform" in [-2 pi, 0], better within it.

    Parameters: `delta` (H, D), each layer its own: the phase at which a head looks for a channel, clamped to
    [-2 pi, 0], which the paper found to be more stable.

    Causal and bidirectional, with the precision of `Rotary` at far positions. The paper claims extrapolation to ten
    times the training length without any change. Queries and keys become 2 D wide (the scale stays as for D), so the
    logits cost twice the time of rotary's and the cache nothing more; values are padded with zeros to 2 D for a kernel
    that needs them as wide as keys.

    Traps: `torch.clamp` passes no gradient from outside. Half of the first steps from zero lead outside, so that half
    of the phases would stay at zero for good; here a gradient that leads back passes. Values, and gradients inside the
    range, are as in x-transformers and PoPE_pytorch. These add delta to the keys; subtracting it from the queries,
    as here, gives the same logit and lets heads that share keys have their own phases. Softplus makes every product
    positive where phases agree: logits start further from zero than under rotary.

    Source: Gopalakrishnan et al., "Decoupling the 'What' and 'Where' With Polar Coordinate Positional Embeddings"
    (2025), section 3.
    """

    shared_by_layers = False
    straight_through = frozenset({"delta"})

    def __init__(
        self, head_dim: Count, num_heads: Count, base: Base = 10_000.0, delta_init: Literal["zero", "uniform"] = "zero"
    ) -> None:
        super().__init__()
        self.base = base
        self.head_dim = head_dim
        self.delta = nn.Parameter(torch.zeros(num_heads, head_dim))
        if delta_init == "uniform":
            nn.init.uniform_(self.delta, -2 * math.pi, 0.0)

    def learned(self) -> dict[str, Tensor]:
        delta: Tensor = _Clamp.apply(self.delta.to(torch.float32))
        return {"delta": delta}

    def spectrum(self, length: int) -> Tensor:
        """Return the inverse frequency of each channel, (D,) float32."""
        return self._frequencies(1)

    def prepare(self, query_positions: Positions, key_positions: Positions) -> Phases:
        end = max(query_positions.stop, key_positions.stop)
        key_cos, key_sin = self._cos_sin(key_positions, end)
        cos, sin = (key_cos, key_sin) if key_positions is query_positions else self._cos_sin(query_positions, end)
        delta_H1D = self.learned()["delta"].unsqueeze(1)
        # The phase of a query is i * theta - delta. At position 1,000,000 float32 would round delta away in the
        # difference, so the addition theorem adds it.
        delta_cos, delta_sin = delta_H1D.cos(), delta_H1D.sin()
        return Phases(cos * delta_cos + sin * delta_sin, sin * delta_cos - cos * delta_sin, key_cos, key_sin)

    def rotate_query(self, q_BHTD: Tensor, tables: Phases) -> Tensor:
        return _polar(q_BHTD, tables.query_cos, tables.query_sin)

    def rotate_key(self, k_BHSD: Tensor, tables: Phases) -> Tensor:
        return _polar(k_BHSD, tables.key_cos, tables.key_sin)

    def _frequencies(self, end: int, device: torch.device | None = None) -> Tensor:
        # One per channel, where rotary has one per pair.
        return inverse_frequencies(2 * self.head_dim, self.base, device, angle_dtype(end))

    def _cos_sin(self, positions: Positions, end: int) -> tuple[Tensor, Tensor]:
        angle = angles(positions.ids_for_heads, self._frequencies(end, positions.ids.device))
        return angle.cos(), angle.sin()


def _polar(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return complex numbers of magnitude softplus(x): all real parts, then all imaginary parts."""
    magnitude = functional.softplus(x.to(torch.float32))
    return torch.cat([magnitude * cos, magnitude * sin], dim=-1).to(x.dtype)


class _Clamp(torch.autograd.Function):
    """Clamp to [-2 pi, 0]; descent may leave the range no further, but may return."""

    generate_vmap_rule = True

    @staticmethod
    def forward(delta: Tensor) -> Tensor:
        return delta.clamp(-2 * math.pi, 0.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (delta,) = ctx.saved_tensors
        (gradient,) = gradients
        leads_further = ((delta > 0) & (gradient < 0)) | ((delta < -2 * math.pi) & (gradient > 0))
        return gradient.masked_fill(leads_further, 0.0)
