"""Parts of a transformer around attention. Dimension letters: B batch, T tokens, M model dim."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from poslab.attention import AttentionContext, MultiHeadAttention
from poslab.encodings import LayerSpec, SequenceMixer, StackShape
from poslab.models.memory import LayerMemory
from poslab.models.short_convolution import ShortConvolution
from poslab.models.stack_config import StackConfig


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


def attention_layer(stack: StackConfig, shape: StackShape) -> MultiHeadAttention:
    """Return a new attention layer of the sizes of a stack."""
    sizes = (stack.d_model, shape.num_heads, shape.num_kv_heads, shape.head_dim)
    return MultiHeadAttention(*sizes, stack.qk_norm, stack.shared_key, stack.shared_query)


class Block(nn.Module):
    """Pre-norm residual block: a sequence mixer, perhaps cross-attention to a memory, then a feed-forward layer.

    Args:
        stack, shape: of the block's stack.
        layer: index of the block, which decides its kind of layer in the stack's pattern.
        cross_attention: True if it also attends to a memory.
    """

    def __init__(self, stack: StackConfig, shape: StackShape, layer: int, cross_attention: bool = False) -> None:
        super().__init__()
        spec = stack.pattern.of_layers(shape.num_layers)[layer]
        self.mixer_norm = nn.RMSNorm(stack.d_model)
        self.mixer_canon = _canon(stack, shape, "A")
        self.mixer = attention_layer(stack, shape) if spec.mixer is None else mixer_layer(spec, shape)
        if cross_attention:
            self.memory_norm = nn.RMSNorm(stack.d_model)
        self.memory_attention = attention_layer(stack, shape) if cross_attention else None
        self.mlp_norm = nn.RMSNorm(stack.d_model)
        self.mlp_canon = _canon(stack, shape, "C")
        self.mlp = GatedMlp(stack.d_model, stack.mlp_hidden)
        self.dropout = nn.Dropout(stack.dropout)

    def forward(self, x_BTM: Tensor, context: AttentionContext, memory: LayerMemory | None = None) -> Tensor:
        """Return the output of the block, (B, T, M); a memory is given if and only if the block attends to one."""
        normed_BTM = self.mixer_norm(x_BTM)
        if self.mixer_canon is not None:
            normed_BTM = self.mixer_canon(normed_BTM, context)
        x_BTM = x_BTM + self.dropout(self.mixer(normed_BTM, context))
        if self.memory_attention is not None:
            assert memory is not None
            attended_BTM = self.memory_attention(self.memory_norm(x_BTM), memory.context, memory.states)
            x_BTM = x_BTM + self.dropout(attended_BTM)
        normed_BTM = self.mlp_norm(x_BTM)
        if self.mlp_canon is not None:
            normed_BTM = self.mlp_canon(normed_BTM, context)
        return x_BTM + self.dropout(self.mlp(normed_BTM))


def mixer_layer(spec: LayerSpec, shape: StackShape) -> SequenceMixer:
    """Return a new mixer of a kind of layers; raise ValueError if it does not suit the stack."""
    assert spec.mixer is not None
    mixer = shape.fill(spec.mixer, "mixer")
    if mixer.causal_only and not shape.causal:
        raise ValueError(f"mixer {type(mixer).__name__} is causal, and this model is not")
    return mixer


def _canon(stack: StackConfig, shape: StackShape, position: str) -> ShortConvolution | None:
    """Return the short convolution at a position of a block, if the stack has one there."""
    if stack.canon is not None and not shape.causal:
        raise ValueError(f"canon must be null in a model that is not causal, got {stack.canon}")
    return ShortConvolution(stack.d_model, position) if position in (stack.canon or "") else None
