"""The parts of a transformer around attention."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from poslab.attention import AttentionContext, MultiHeadAttention


class GatedMlp(nn.Module):
    """A gated feed-forward layer, `W_out (silu(W_gate x) * W_up x)`.

    Args:
        d_model: width M.
        hidden: inner width.

    Source: Shazeer, "GLU Variants Improve Transformer" (2020), SwiGLU.
    """

    def __init__(self, d_model: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(d_model, 2 * hidden, bias=False)
        self.output = nn.Linear(hidden, d_model, bias=False)

    def forward(self, x_BTM: Tensor) -> Tensor:
        gate, up = self.gate_up(x_BTM).chunk(2, dim=-1)
        return self.output(functional.silu(gate) * up)


class Block(nn.Module):
    """Pre-norm residual block: attention, then a feed-forward layer.

    Args:
        attention: self-attention of the block.
        d_model: width M.
        mlp_hidden: inner width of the feed-forward layer.
        dropout: probability of dropping a residual's element.
    """

    def __init__(self, attention: MultiHeadAttention, d_model: int, mlp_hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(d_model)
        self.attention = attention
        self.mlp_norm = nn.RMSNorm(d_model)
        self.mlp = GatedMlp(d_model, mlp_hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTM: Tensor, context: AttentionContext) -> Tensor:
        x_BTM = x_BTM + self.dropout(self.attention(self.attention_norm(x_BTM), context))
        return x_BTM + self.dropout(self.mlp(self.mlp_norm(x_BTM)))
