"""The forget gate of FoX.

Dimension letters: B batch, H heads, T tokens, R query rows, S keys, P past tokens, D head dim, M model dim, E = 1.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.arguments import NOT_EXTREME, Count
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.positions import Positions


class Forgetting(PositionalEncoding):
    """Forgetting Transformer (FoX): each token on the way makes a head forget what is before it.

        logit(i, j) = q_i . k_j / sqrt(D) + ln f_{j+1} + ... + ln f_i
        f_t = sigmoid(w_h . x_t + b_h)

    ALiBi with slopes that the tokens choose: a constant gate f is a slope of -ln f. No token forgets itself (j = i).

    Use it when a decoder should decide by content what to forget. It needs no other encoding.

    Args:
        d_model, num_heads: width M of the tokens and heads H.
        gate_bias: initial b_h (authors: 0, half forgotten per token; x-transformers: 5, slope 0.007), usually 0 to 8.

    Parameters: `gate` in each layer, with `weight` (H, M), initially normal with standard deviation 1 / sqrt(M), and
    `bias` (H).

    Causal; x-transformers has a form for encoders that is not the paper's. The authors use it without rotary embeddings
    and claim better extrapolation than with them. A token's state is one number for each head; the bias is a difference
    of two cumulative sums, one addition for each query and key.

    Traps: the sum begins after j. Sums in bfloat16 were off by several nats at 8,192 tokens, so gates are float32 under
    autocast too, and sums float64. Keys that no query of the block sees (padding, other documents) do not enter the
    sums. A temperature leaves this bias alone; PaTH's gates stand within the scale, these do not.

    Source: Lin, Nikishin, He, Courville, "Forgetting Transformer: Softmax Attention with a Forget Gate" (ICLR 2025),
    section 3.
    """

    shared_by_layers = False
    causal_only = True

    def __init__(self, d_model: Count, num_heads: Count, gate_bias: Annotated[float, NOT_EXTREME] = 0.0) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, num_heads)
        nn.init.normal_(self.gate.weight, std=d_model**-0.5)
        nn.init.constant_(self.gate.bias, gate_bias)

    def state(self, x_BTM: Tensor, positions: Positions, past_BHPE: Tensor | None) -> Tensor:
        """Return the logarithm of each head's gate at each new token."""
        with torch.autocast(x_BTM.device.type, enabled=False):
            x_BTM = x_BTM.to(torch.promote_types(x_BTM.dtype, torch.float32))
            gate_BTH = functional.linear(x_BTM, self.gate.weight.to(x_BTM.dtype), self.gate.bias.to(x_BTM.dtype))
            return functional.logsigmoid(gate_BTH).mT.unsqueeze(-1)

    def content_positions(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        """Return what is forgotten between key and query, -(ln f_{j+1} + ... + ln f_i) in nats, float64."""
        assert rows.key_state is not None
        gates_BHS = rows.key_state.squeeze(-1).to(q_BHRD.dtype)
        if rows.visible is not None:
            gates_BHS = gates_BHS.masked_fill(~rows.visible.any(dim=-2), 0.0)
        sums_BHS = gates_BHS.cumsum(-1, dtype=torch.float64)  # float32 is 0.002 nats off after 32,000 tokens
        sums_BHR = sums_BHS[..., rows.first_key : rows.first_key + q_BHRD.shape[2]]
        # Negative ahead of the query, where nothing is visible.
        return sums_BHS.unsqueeze(-2) - sums_BHR.unsqueeze(-1)

    def logits(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        forgotten_BHRS = self.content_positions(q_BHRD, k_BHSD, rows)
        return super().logits(q_BHRD, k_BHSD, rows) - forgotten_BHRS.to(q_BHRD.dtype)
