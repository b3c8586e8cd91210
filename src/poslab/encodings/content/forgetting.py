"""The forget gate of FoX.

Dimension letters: B batch, H heads, T tokens, R query rows, S keys, P past tokens, D head dim, M model dim,
E = 1, or 2 in an encoder.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.arguments import NOT_EXTREME, Count
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.numerics import float32_linear
from poslab.encodings.positions import Positions


class Forgetting(PositionalEncoding):
    """Forgetting Transformer (FoX): each token on the way makes a head forget what is before it.

        logit(i, j) = q_i . k_j / sqrt(D) + ln f_{j+1} + ... + ln f_i
        f_t = sigmoid(w_h . x_t + b_h)

    ALiBi with slopes that the tokens choose: a constant gate f is a slope of -ln f. No token forgets itself (j = i). In
    an encoder keys ahead have separate gates g, ln g_{i+1} + ... + ln g_j: on either side the gate of the later of
    the two counts, and the gate of the earlier one does not.

    Use it when a model should decide by content what to forget. It needs no other encoding.

    Args:
        d_model, num_heads: width M of the tokens and heads H.
        causal: True if keys are never ahead of the query.
        gate_bias: initial b_h (authors: 0, half forgotten per token; x-transformers: 5, slope 0.007), usually 0 to 8.

    Parameters: `gate` in each layer, with `weight` (H, M), initially normal with standard deviation 1 / sqrt(M), and
    `bias` (H); in an encoder also `gate_ahead`.

    Causal in the paper; the form for encoders follows x-transformers. The authors use it without rotary embeddings
    and claim better extrapolation than with them. A token's state is one number for each head, or two; the bias is a
    difference of two cumulative sums, one addition for each query and key.

    Traps: the sum begins after j. Sums in bfloat16 were off by several nats at 8,192 tokens, so gates are float32 under
    autocast too, and sums float64. Keys that no query of the block sees (padding, other documents) do not enter the
    sums. A temperature leaves this bias unchanged; PaTH's gates are within the scale, these do not.

    Source: Lin, Nikishin, He, Courville, "Forgetting Transformer: Softmax Attention with a Forget Gate" (ICLR 2025),
    section 3.
    """

    shared_by_layers = False

    def __init__(
        self, d_model: Count, num_heads: Count, gate_bias: Annotated[float, NOT_EXTREME] = 0.0, causal: bool = True
    ) -> None:
        super().__init__()
        self.causal = causal
        self.gate = forget_gate(d_model, num_heads, gate_bias)
        self.gate_ahead = None if causal else forget_gate(d_model, num_heads, gate_bias)

    def state(self, x_BTM: Tensor, positions: Positions, past_BHPE: Tensor | None) -> Tensor:
        """Return the logarithm of each head's gate at each new token, and of its gate ahead in an encoder."""
        gates = [self.gate] if self.gate_ahead is None else [self.gate, self.gate_ahead]
        logits = [float32_linear(x_BTM, gate.weight, gate.bias) for gate in gates]
        return torch.stack([functional.logsigmoid(gate_BTH).mT for gate_BTH in logits], dim=-1)

    def content_positions(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        """Return the forgetting between key and query, -(ln f_{j+1} + ... + ln f_i) in nats, float64."""
        assert rows.key_state is not None
        forgotten, *ahead = (self._forgotten(gates_BHS, q_BHRD, rows) for gates_BHS in rows.key_state.unbind(-1))
        # Negative ahead of the query, where a causal one sees nothing and another one has the sum of the gates ahead.
        return torch.maximum(forgotten, -ahead[0]) if ahead else forgotten

    def _forgotten(self, gates_BHS: Tensor, q_BHRD: Tensor, rows: QueryRows) -> Tensor:
        """Return the sum of the logarithms of gates up to a key less that up to a query, (B, H, R, S) float64."""
        gates_BHS = gates_BHS.to(q_BHRD.dtype)
        if rows.visible is not None:
            gates_BHS = gates_BHS.masked_fill(~rows.visible.any(dim=-2), 0.0)
        sums_BHS = gates_BHS.cumsum(-1, dtype=torch.float64)  # float32 is 0.002 nats off after 32,000 tokens
        sums_BHR = sums_BHS[..., rows.first_key : rows.first_key + q_BHRD.shape[2]]
        return sums_BHS.unsqueeze(-2) - sums_BHR.unsqueeze(-1)

    def logits(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        forgotten_BHRS = self.content_positions(q_BHRD, k_BHSD, rows)
        return super().logits(q_BHRD, k_BHSD, rows) - forgotten_BHRS.to(q_BHRD.dtype)


def forget_gate(d_model: int, num_gates: int, bias: float) -> nn.Linear:
    """Return a new layer whose outputs are the logits of gates, with normal weights of variance 1 / M."""
    gate = nn.Linear(d_model, num_gates)
    nn.init.normal_(gate.weight, std=d_model**-0.5)
    nn.init.constant_(gate.bias, bias)
    return gate
