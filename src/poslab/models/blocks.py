"""Parts of a transformer around attention. Dimension letters: B batch, T tokens, M model dim."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from poslab.attention import AttentionContext, MultiHeadAttention
from poslab.models.memory import LayerMemory


class GatedMlp(nn.Module):
    """Gated feed-forward layer of inner width `hidden`, `W_out (silu(W_gate x) * W_up x)`.

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
    """Pre-norm residual block: self-attention, perhaps cross-attention to a memory, then a feed-forward layer.

    `dropout` is the probability of dropping an element of a residual.
    """

    def __init__(
        self,
        attention: MultiHeadAttention,
        d_model: int,
        mlp_hidden: int,
        dropout: float,
        memory_attention: MultiHeadAttention | None = None,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(d_model)
        self.attention = attention
        if memory_attention is not None:
            self.memory_norm = nn.RMSNorm(d_model)
        self.memory_attention = memory_attention
        self.mlp_norm = nn.RMSNorm(d_model)
        self.mlp = GatedMlp(d_model, mlp_hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTM: Tensor, context: AttentionContext, memory: LayerMemory | None = None) -> Tensor:
        """Return the output of the block, (B, T, M); a memory is given if and only if the block attends to one."""
        x_BTM = x_BTM + self.dropout(self.attention(self.attention_norm(x_BTM), context))
        if self.memory_attention is not None:
            assert memory is not None
            attended_BTM = self.memory_attention(self.memory_norm(x_BTM), memory.context, memory.states)
            x_BTM = x_BTM + self.dropout(attended_BTM)
        return x_BTM + self.dropout(self.mlp(self.mlp_norm(x_BTM)))
