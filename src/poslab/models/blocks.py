"""Configuration of a stack of transformer blocks, and its blocks. Dimension letters: B batch, T tokens, M model dim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.arguments import Count, Range, with_checked_arguments
from poslab.attention import AttentionContext, MultiHeadAttention, Route
from poslab.compiled.rows import RMSNorm, gated
from poslab.encodings import EncodingFactory, LayerPattern, PositionSampler, StackShape, TemperatureFactory
from poslab.models.contexts import LayerMemory

Ratio = Annotated[float, Range(above=0), Range(at_most=1000)]
"""Inner width of a feed-forward layer over the width of the model."""

Dropout = Annotated[float, Range(at_least=0, below=1)]
"""Fraction that is dropped."""

SharedKey = Annotated[float, Range(at_least=0, at_most=1)]
"""Share of the channels of a key that all heads have in common."""

Sinks = Literal["all", "windows"]
"""Layers whose heads have an attention sink: all, or layers in which a token does not see all tokens."""

Canon = Literal["A", "C", "AC"]
"""Positions of short convolutions in a block, as the paper of Canon layers names them."""


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """Configuration of a stack: everything that is known before the data.

    Args:
        encoding: factory of the positional encoding of the stack: an encoding class, or a partial of one.
        d_model: width M.
        num_layers: number of blocks L; in an encoder-decoder, of each of its two stacks.
        num_heads: query heads H.
        num_kv_heads: key-value heads, a divisor of H; None is H.
        head_dim: head dimension D; None is M / H.
        mlp_ratio: inner width of the feed-forward layers over M, rounded up to a multiple of 32. With 8/3 the three
            gated matrices have as many numbers as two plain ones of 4 M.
        qk_norm: True normalises queries and keys per head.
        shared_key: share of the channels of a key, the first ones, that all heads have in common, in [0, 1]. Under
            rotary with a `fraction` as large only these rotate, as in DeepSeek's latent attention. Not with `qk_norm`.
        shared_query: True gives each two neighbouring heads the same query, as RoPE++ needs.
        dropout: dropped share of embeddings and residuals, in [0, 1). Attention weights are never dropped.
        layers: kinds of layers, where they differ in mixer, window, chunk, encoding, temperature or sinks, and their
            order; None: all alike.
        window: number of last tokens that each token sees, itself included, and as many ahead if not causal; None: all.
            Kinds of layers may have narrower windows.
        sinks: layers whose heads have an attention sink, a learned logit that joins the softmax without a value: "all",
            or "windows" for layers in which a token does not see all; None: none. As in gpt-oss, and in MiMo V2 Flash.
        canon: positions of short convolutions, which show a layer the tokens just before: "A", before attention, "C",
            before the feed-forward layer, or "AC"; None: none. Only of causal stacks.
        attention: attention route; `auto` is the cheapest that is exact for the encoding.
        positions: sampler of other positions than 0, 1, 2, ... for the tokens; None for none.
        temperature: factory of the factors on the logits by the number of visible keys; None for none.
    """

    inline_fields: ClassVar[bool] = True
    """Its fields are keys of the model itself in a configuration."""

    encoding: EncodingFactory
    d_model: Count
    num_layers: Count
    num_heads: Count
    num_kv_heads: Count | None = None
    head_dim: Count | None = None
    mlp_ratio: Ratio = 8 / 3
    qk_norm: bool = False
    shared_key: SharedKey = 0.0
    shared_query: bool = False
    dropout: Dropout = 0.0
    layers: LayerPattern | None = None
    window: Count | None = None
    sinks: Sinks | None = None
    canon: Canon | None = None
    attention: Route = "auto"
    positions: PositionSampler | None = None
    temperature: TemperatureFactory | None = None

    @property
    def pattern(self) -> LayerPattern:
        """Kinds of layers with their encodings and sinks, and their order; ValueError as `LayerPattern.under` does."""
        pattern = LayerPattern.of(self.encoding) if self.layers is None else self.layers.under(self.encoding)
        if self.sinks is None:
            return pattern
        has_sinks = [
            not spec.mixer and (self.sinks == "all" or {self.window, spec.window, spec.chunk} != {None})
            for spec in pattern.specs
        ]
        kinds = [replace(spec, sinks=spec.sinks or sinks) for spec, sinks in zip(pattern.specs, has_sinks, strict=True)]
        return replace(pattern, kinds=kinds)

    @property
    def mlp_hidden(self) -> int:
        """Inner width of the feed-forward layers."""
        return max(1, -(-int(self.mlp_ratio * self.d_model) // 32)) * 32

    def shape(self, causal: bool, digits: Sequence[int] = ()) -> StackShape:
        """Return the shape that encodings see, with defaults filled in; arguments as in `StackShape`.

        ValueError for sizes that do not fit together.
        """
        head_dim = self.head_dim
        if head_dim is None:
            head_dim, rest = divmod(self.d_model, self.num_heads)
            if rest:
                raise ValueError(
                    f"num_heads must divide d_model={self.d_model} (or set head_dim), got {self.num_heads}"
                )
        num_kv_heads = self.num_heads if self.num_kv_heads is None else self.num_kv_heads
        if self.num_heads % num_kv_heads:
            raise ValueError(f"num_kv_heads must divide num_heads={self.num_heads}, got {num_kv_heads}")
        if self.shared_query and self.num_heads % 2:
            raise ValueError(f"num_heads must be even with shared_query=true, got {self.num_heads}")
        if self.shared_key and self.qk_norm:
            raise ValueError(
                "qk_norm must be false with shared_key: it would give each head its own scale for what they share"
            )
        return StackShape(self.d_model, self.num_layers, self.num_heads, num_kv_heads, head_dim, causal, tuple(digits))


class GatedMlp(nn.Module):
    """Gated feed-forward layer of inner width `hidden`, `W_out (silu(W_gate x) * W_up x)`.

    Source: Shazeer, "GLU Variants Improve Transformer" (2020), SwiGLU.
    """

    def __init__(self, d_model: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(d_model, 2 * hidden, bias=False)
        self.output = nn.Linear(hidden, d_model, bias=False)

    def forward(self, x_BTM: Tensor) -> Tensor:
        return self.output(gated(self.gate_up(x_BTM)))


def attention_layer(stack: StackConfig, shape: StackShape) -> MultiHeadAttention:
    """Return a new attention layer of the sizes of a stack."""
    sizes = (stack.d_model, shape.num_heads, shape.num_kv_heads, shape.head_dim)
    return MultiHeadAttention(*sizes, stack.qk_norm, stack.shared_key, stack.shared_query)


class Block(nn.Module):
    """Pre-norm residual block: a sequence mixer, perhaps cross-attention to a memory, then a feed-forward layer.

    Its index decides its kind of layer in the stack's pattern.
    """

    def __init__(self, stack: StackConfig, shape: StackShape, layer: int, cross_attention: bool = False) -> None:
        super().__init__()
        spec = stack.pattern.of_layers(shape.num_layers)[layer]
        self.mixer_norm = RMSNorm(stack.d_model)
        self.mixer_canon = _canon(stack, shape, "A")
        self.mixer = attention_layer(stack, shape) if spec.mixer is None else shape.fill(spec.mixer, "mixer")
        if getattr(self.mixer, "causal_only", False) and not shape.causal:
            raise ValueError(f"mixer {type(self.mixer).__name__} is causal, and this model is not")
        if cross_attention:
            self.memory_norm = RMSNorm(stack.d_model)
        self.memory_attention = attention_layer(stack, shape) if cross_attention else None
        self.mlp_norm = RMSNorm(stack.d_model)
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


def _canon(stack: StackConfig, shape: StackShape, position: str) -> ShortConvolution | None:
    """Return the short convolution at a position of a block, if the stack has one there."""
    if stack.canon is not None and not shape.causal:
        raise ValueError(f"canon must be null in a model that is not causal, got {stack.canon}")
    return ShortConvolution(stack.d_model, position) if position in (stack.canon or "") else None


WIDTH = 4  # tokens that a convolution reads, the current one included (paper: 4)


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
