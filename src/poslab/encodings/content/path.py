"""PaTH's products of Householder transformations.

Dimension letters: B batch, H heads, G key-value heads, N query heads of each, T tokens, R queries of a block, S keys,
P past tokens, D head dim, M model dim, E numbers of a token's state, C keys of a chunk.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.arguments import Count
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.content.convolution import causal_convolution
from poslab.encodings.numerics import float32_linear, split_heads
from poslab.encodings.positions import Positions


class PaTH(PositionalEncoding):
    """PaTH attention: every token between a key and a query applies a reflection to the query.

        logit(i, j) = k_j^T H_{j+1} H_{j+2} ... H_i q_i / sqrt(D)
        H_t = I - beta_t w_t w_t^T
        w_t = normalised(silu(conv(up(down(x_t)))))        beta_t = 2 sigmoid(b . x_t + b_0)

    The convolution is causal, `conv_width` tokens wide and separate for each channel. With forget gates (PaTH-FoX) the
    logit is `(k_j^T H_{j+1} ... H_i q_i + ln f_{j+1} + ... + ln f_i) / sqrt(D)`, f_t = sigmoid(g . x_t + g_0).

    Use it when a decoder has to track what changes, such as the last value of a variable, and may take more time for
    it.

    Args:
        d_model, num_heads, num_kv_heads, head_dim: M, H, G and D; each key-value head has its own reflections.
        rank: width of the bottleneck between `down` and `up` (paper: 32; positive).
        conv_width: number of tokens, the current one and those before it, in w_t (paper: 3; positive).
        forget_gate: True if each query head also forgets at its own rate (paper: both are reported).

    Parameters, each layer its own: `down` (rank, M), `up` (G D, rank), `kernel` (G D, conv_width; the current token
    first), `beta_weight` (G, M), `beta_bias` (G), and with gates `gate_weight` (H, M), `gate_bias` (H). Matrices start
    normal with standard deviation 1 / sqrt(inputs), the kernel as in `nn.Conv1d`, biases at 0.

    Causal only, and relative: position is only what lies between. The paper claims state tracking that rotary cannot
    learn, and extrapolation that is good with forget gates and middling without.

    Cost: keys are processed in chunks of 64, from the last to the first, each with one triangular system (the paper's
    UT transform), so time is a few times plain attention's, in a decoding step too: keys stay as they were
    written, and the queries go back to them. The state is 2 D + 1 numbers per key-value head, 1 per gated query head.

    Traps: the order of the product matters, and H_i belongs to it while H_j does not. A gate's logarithm is within
    the scale, as in flash-linear-attention, while FoX adds it to scaled logits. Products need no masking of padding or
    documents, since none lies between tokens that see each other; but the convolution stops at the edge.

    Source: Yang et al., "PaTH Attention: Position Encoding via Accumulating Householder Transformations" (2025),
    sections 2 and 3; parametrisation as in flash-linear-attention.
    """

    shared_by_layers = False
    causal_only = True

    def __init__(
        self,
        d_model: Count,
        num_heads: Count,
        num_kv_heads: Count,
        head_dim: Count,
        rank: Count = 32,
        conv_width: Count = 3,
        forget_gate: bool = False,
    ) -> None:
        super().__init__()
        self.group = num_heads // num_kv_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim
        width = num_kv_heads * head_dim
        self.down = nn.Parameter(torch.randn(rank, d_model) * d_model**-0.5)
        self.up = nn.Parameter(torch.randn(width, rank) * rank**-0.5)
        self.kernel = nn.Parameter(torch.empty(width, conv_width).uniform_(-1, 1) * conv_width**-0.5)
        self.beta_weight = nn.Parameter(torch.randn(num_kv_heads, d_model) * d_model**-0.5)
        self.beta_bias = nn.Parameter(torch.zeros(num_kv_heads))
        self.gate_weight = nn.Parameter(torch.randn(num_heads, d_model) * d_model**-0.5) if forget_gate else None
        self.gate_bias = nn.Parameter(torch.zeros(num_heads)) if forget_gate else None

    def state(self, x_BTM: Tensor, positions: Positions, past_BHPE: Tensor | None) -> Tensor:
        """Return, for each key-value head, w, the input of the convolution, beta and the log gates of its queries."""
        groups = self.num_kv_heads
        projected_BGTD = split_heads(float32_linear(float32_linear(x_BTM, self.down), self.up), groups)
        past = None if past_BHPE is None else past_BHPE[..., self.head_dim : 2 * self.head_dim]
        kernel_GDW = self.kernel.unflatten(0, (groups, self.head_dim))
        w_BGTD = functional.silu(causal_convolution(projected_BGTD, kernel_GDW, positions, past))
        # As flash-linear-attention does; a w of zero, from zero inputs, makes H the identity.
        w_BGTD = w_BGTD * (w_BGTD.square().sum(-1, keepdim=True) + 1e-6).rsqrt()
        beta_BGT1 = split_heads(2 * float32_linear(x_BTM, self.beta_weight, self.beta_bias).sigmoid(), groups)
        parts = [w_BGTD, projected_BGTD, beta_BGT1]
        if self.gate_weight is not None:
            gates_BTH = functional.logsigmoid(float32_linear(x_BTM, self.gate_weight, self.gate_bias))
            parts.append(split_heads(gates_BTH, groups))
        return torch.cat(parts, dim=-1)

    def logits(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        assert rows.key_state is not None
        state_BGSE = rows.key_state.to(q_BHRD.dtype)
        rest = state_BGSE.shape[-1] - 2 * self.head_dim - 1
        w_BGSD, _, beta_BGS1, gates_BGSN = state_BGSE.split([self.head_dim, self.head_dim, 1, rest], dim=-1)
        w_BHSD = w_BGSD.repeat_interleave(self.group, dim=1)
        beta_BHS1 = beta_BGS1.repeat_interleave(self.group, dim=1)
        change = _change_by_reflections(q_BHRD, k_BHSD, w_BHSD, beta_BHS1, rows.first_key)
        if self.gate_weight is not None:
            gates_BHS = gates_BGSN.movedim(-1, 2).flatten(1, 2)
            forgotten_BHS = gates_BHS.cumsum(-1, dtype=torch.float64)  # float32 is 4e-4 nats off after 8,000 tokens
            forgotten_BHR = forgotten_BHS[..., rows.first_key : rows.first_key + q_BHRD.shape[2]]
            change = change + (forgotten_BHR.unsqueeze(-1) - forgotten_BHS.unsqueeze(-2)).to(change.dtype)
        return super().logits(q_BHRD, k_BHSD, rows) + change * rows.scale


def _change_by_reflections(
    q_BHRD: Tensor, k_BHSD: Tensor, w_BHSD: Tensor, beta_BHS1: Tensor, first_key: int, chunk: int = 64
) -> Tensor:
    """Return the change of q . k by the reflections between each key and query, (B, H, R, S).

    With the directions as rows of W, the betas on the diagonal of b, `lower` the part below a diagonal and `tril` that
    part and the diagonal (a query meets reflections up to its own place), the logits of a chunk of keys are

        Q K^T - tril(Q W^T) (I + lower(b W W^T))^{-1} lower(b W K^T)

    where Q has the queries as reflected by the chunks after it: one triangular system for all pairs. `first_key` is
    the index of the first query among the keys; `chunk`, the number of keys in one system, changes only the cost.
    """
    turned_BHRD = q_BHRD
    changes = []
    for start in reversed(range(0, k_BHSD.shape[2], chunk)):
        w, k = w_BHSD[:, :, start : start + chunk], k_BHSD[:, :, start : start + chunk]
        weighted = beta_BHS1[:, :, start : start + chunk] * w
        within_BHCC = (weighted @ w.mT).tril(-1)
        # Row r of the block is query first_key + r: it meets the reflections up to its own place.
        met_BHRC = (turned_BHRD @ w.mT).tril(first_key - start)
        taken_BHRC = torch.linalg.solve_triangular(within_BHCC, met_BHRC, upper=False, left=False, unitriangular=True)
        before = turned_BHRD - q_BHRD
        changes.append(before @ k.mT - taken_BHRC @ (weighted @ k.mT).tril(-1))
        turned_BHRD = turned_BHRD - taken_BHRC @ weighted
    return torch.cat(changes[::-1], dim=-1)
