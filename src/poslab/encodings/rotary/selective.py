"""Selective rotary: queries and keys rotate by what the tokens between them say.

Dimension letters: B batch, H query heads, G key-value heads, T tokens, P past tokens, D head dim, M model dim,
E numbers of a token's state.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from poslab.arguments import NOT_HUGE, Count, Range
from poslab.encodings.content.convolution import causal_convolution
from poslab.encodings.frequencies import Base, inverse_frequencies
from poslab.encodings.numerics import float32_linear, split_heads
from poslab.encodings.positions import Positions
from poslab.encodings.rotary.by_head import RotationByContent


class SelectiveRotary(RotationByContent):
    """Selective rotary: every token between a key and a query adds a rotation by an angle that it chooses.

        logit(i, j) = q_i . R(Phi_j - Phi_i) k_j / sqrt(D)
        Phi_t = phi_1 + ... + phi_t,    phi_t = conv(W_2 W_1 x'_t) + exp(b)

    R rotates pair m by `base ** (-2m / D)` times the m-th number of its argument, each key-value head by its own. x' is
    the token cut into one piece for each of these heads, each of length 1. The convolution is causal, `conv_width`
    tokens wide and separate for each number. exp(b) is there only with `steps`: it begins as the step of rotary. With
    `gate`, phi_t has the factor sigmoid(w_h . x'_t + c_h).

    Use it when a decoder should track a state that tokens change.

    Args:
        d_model, num_heads, num_kv_heads, head_dim: M, H, G and D; M must be a multiple of G.
        base: base of the factors of the angles (authors: 500,000; above 1).
        rank: width of W_1 x (authors: 16; positive).
        conv_width: tokens, the current one and those before it, in an angle (authors: 4; at least 2).
        steps: True adds exp(b), so that the angle grows with position as well (authors' default: False).
        gate: True lets each head choose how far a token rotates it (authors' default: False).

    Parameters, each layer its own: `down` (rank, M), `up` (G D / 2, rank) and `kernel` (G D / 2, conv_width; the
    current token first), initially uniform as in `nn.Linear` and `nn.Conv1d`; with steps `log_step` b (G, D / 2)
    at 0; with a gate `gate_weight` (G, M), as in `nn.Linear`, and `gate_bias` (G) at 0.

    Causal only, and relative: position is only what lies between. A state is D numbers for each key-value head: its
    angles, and what the convolution reads of it again. Costs two products of width `rank` for a token and a cumulative
    sum, then what rotary costs, on the same routes. Its authors claim that it solves tasks of state tracking that
    rotary cannot, and is best with forget gates, which this class does not have.

    Traps: sums of angles are float64, and kept modulo 2 pi, so they are as exact after a million tokens as after one.
    Padding and other documents rotate queries and keys alike, which changes nothing; the convolution stops there.

    Source: "Selective Rotary Position Embedding" (ICLR 2026, arXiv 2511.17388); defaults as in its code.
    """

    causal_only = True

    def __init__(
        self,
        d_model: Count,
        num_heads: Count,
        num_kv_heads: Count,
        head_dim: Count,
        base: Base = 500_000.0,
        rank: Count = 16,
        conv_width: Annotated[int, Range(at_least=2), NOT_HUGE] = 4,
        steps: bool = False,
        gate: bool = False,
    ) -> None:
        super().__init__(num_heads, num_kv_heads, head_dim)
        if d_model % num_kv_heads:
            raise ValueError(f"d_model must be a multiple of the {num_kv_heads} key-value heads, got {d_model}")
        self.base = base
        width = num_kv_heads * head_dim // 2
        self.down = nn.Parameter(_uniform(rank, d_model))
        self.up = nn.Parameter(_uniform(width, rank))
        self.kernel = nn.Parameter(_uniform(width, conv_width))
        self.log_step = nn.Parameter(torch.zeros(num_kv_heads, head_dim // 2)) if steps else None
        self.gate_weight = nn.Parameter(_uniform(num_kv_heads, d_model)) if gate else None
        self.gate_bias = nn.Parameter(torch.zeros(num_kv_heads)) if gate else None

    def state(self, x_BTM: Tensor, positions: Positions, past_BHPE: Tensor | None) -> Tensor:
        """Return, for each key-value head, the angles of each new token and the input of the convolution."""
        pairs, groups = self.head_dim // 2, self.num_kv_heads
        pieces = x_BTM.to(torch.promote_types(x_BTM.dtype, torch.float32)).unflatten(-1, (groups, -1))
        x_BTM = (pieces * (pieces.square().sum(-1, keepdim=True) + 1e-6).rsqrt()).flatten(-2)
        projected_BGTP = split_heads(float32_linear(float32_linear(x_BTM, self.down), self.up), groups)
        past = None if past_BHPE is None else past_BHPE[..., pairs:]
        kernel_GPW = self.kernel.unflatten(0, (groups, pairs))
        phase_BGTP = causal_convolution(projected_BGTP, kernel_GPW, positions, past)
        if self.log_step is not None:
            phase_BGTP = phase_BGTP + self.log_step.to(x_BTM.dtype).exp().unsqueeze(-2)
        if self.gate_weight is not None:
            gate_BTG = float32_linear(x_BTM, self.gate_weight, self.gate_bias).sigmoid()
            phase_BGTP = phase_BGTP * split_heads(gate_BTG, groups)
        turns_BGTP = phase_BGTP * inverse_frequencies(self.head_dim, self.base, x_BTM.device)
        angle_BGTP = turns_BGTP.cumsum(-2, dtype=torch.float64)
        if past_BHPE is not None:
            angle_BGTP = angle_BGTP + past_BHPE[:, :, -1:, :pairs]
        angle_BGTP = angle_BGTP.remainder(2 * math.pi).to(x_BTM.dtype)
        return torch.cat([angle_BGTP, projected_BGTP], dim=-1)

    def angles(self, state_BGTE: Tensor) -> Tensor:
        return state_BGTE[..., : self.head_dim // 2]


def _uniform(outputs: int, inputs: int) -> Tensor:
    """Return a matrix as in a new `nn.Linear`."""
    return torch.empty(outputs, inputs).uniform_(-1, 1) * inputs**-0.5
