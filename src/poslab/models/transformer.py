from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from torch import Tensor, nn

from poslab.arguments import CheckedArguments, Count, Range, checked
from poslab.attention import (
    KeyValueCache,
    MultiHeadAttention,
    Route,
    choose_route,
    self_attention_contexts,
)
from poslab.encodings import (
    EncodingFactory,
    Positions,
    PositionSampler,
    StackEncodings,
    StackShape,
    TemperatureFactory,
)
from poslab.encodings.tokens import PADDING, Tokens
from poslab.models.blocks import Block
from poslab.models.memory import Memory

Ratio = Annotated[float, Range(above=0), Range(at_most=1000)]
"""The inner width of a feed-forward layer over that of the model."""

Share = Annotated[float, Range(at_least=0, below=1)]
"""What is dropped."""


class Transformer(CheckedArguments, nn.Module):
    """A stack of blocks under a positional encoding, from tokens to hidden states: what all models are made of.

    Pre-norm, RMSNorm, gated feed-forward layers, no biases.

    Args:
        vocab_size: number of tokens V.
        encoding: makes the positional encoding of the stack: an encoding class, or a partial of one.
        d_model: width M.
        num_layers: number of blocks L.
        num_heads: query heads H.
        num_kv_heads: key-value heads, a divisor of H; None is H.
        head_dim: head dimension D; None is M / H.
        mlp_ratio: inner width of the feed-forward layers over M. With 8/3 the three gated matrices hold as much as two
            plain ones of 4 M; rounded up to a multiple of 32.
        qk_norm: whether queries and keys are normalised per head.
        dropout: dropped share of embeddings and residuals, in [0, 1). Attention weights are never dropped.
        window: how many of the last tokens each token sees, itself included, and as many ahead where it sees those;
            None sees all.
        attention: forces an attention route; `auto` takes the cheapest that is exact for the encoding.
        positions: draws other positions than 0, 1, 2, ... for the tokens; None does not.
        temperature: makes what scales the logits of a layer by how many keys are visible; None leaves them.
        digits: the ids of the tokens that are one digit each, for encodings that ask for them.
        asks_memory: whether each block attends to a memory as well (cross-attention).

    Raises:
        ValueError: for a shape that does not fit together, a route that is not exact for the encoding, or an encoding
            that is causal where the stack is not.
    """

    causal: ClassVar[bool]
    """Whether a token sees only itself and those before it."""

    def __init__(
        self,
        vocab_size: Count,
        encoding: EncodingFactory,
        d_model: Count,
        num_layers: Count,
        num_heads: Count,
        num_kv_heads: Count | None = None,
        head_dim: Count | None = None,
        mlp_ratio: Ratio = 8 / 3,
        qk_norm: bool = False,
        dropout: Share = 0.0,
        window: Count | None = None,
        attention: Route = "auto",
        positions: PositionSampler | None = None,
        temperature: TemperatureFactory | None = None,
        digits: Sequence[int] = (),
        asks_memory: bool = False,
    ) -> None:
        super().__init__()
        shape = stack_shape(d_model, num_layers, num_heads, num_kv_heads, head_dim, self.causal, digits)
        self.shape = shape
        self.window = window
        self.route = attention
        self.position_sampler = positions
        self.encodings = StackEncodings(encoding, shape, temperature)
        for instance in self.encodings:
            choose_route(instance, attention)
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.dropout = nn.Dropout(dropout)
        mlp_hidden = max(1, -(-int(mlp_ratio * d_model) // 32)) * 32

        def attention_layer() -> MultiHeadAttention:
            return MultiHeadAttention(d_model, num_heads, shape.num_kv_heads, shape.head_dim, qk_norm)

        self.blocks = nn.ModuleList(
            Block(attention_layer(), d_model, mlp_hidden, dropout, attention_layer() if asks_memory else None)
            for _ in range(num_layers)
        )
        self.norm = nn.RMSNorm(d_model)

    @property
    def vocab_size(self) -> int:
        """The number of tokens V."""
        return self.embedding.num_embeddings

    @property
    def head_dim(self) -> int:
        """The head dimension D."""
        return self.shape.head_dim

    @property
    def max_length(self) -> int | None:
        """The number of positions at which its encoding, or what draws positions for it, ends; None if neither does."""
        ends = [self.encodings.max_length]
        if self.position_sampler is not None:
            ends.append(self.position_sampler.max_length)
        return min((end for end in ends if end is not None), default=None)

    def new_cache(self) -> KeyValueCache:
        """An empty cache for reading a text piece by piece."""
        return KeyValueCache(len(self.blocks))

    def hidden_states(
        self,
        tokens_BT: Tensor,
        positions: Positions | None = None,
        real: Tensor | None = None,
        cache: KeyValueCache | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        """The normalised output of the last block, (B, T, M).

        Args:
            tokens_BT: token ids.
            positions: where they are; None is 0, 1, ... or what follows the cache. A sampler draws others for the first
                tokens; those that follow a cache are taken as they are given.
            real: (B, T) bool, False at padding; None has none.
            cache: what came before, to which these tokens are added; None is nothing.
            memory: what the blocks attend to as well; given if and only if they ask for it.
        """
        continued = cache if cache is not None and len(cache) else None
        if positions is None:
            length, device = tokens_BT.shape[1], tokens_BT.device
            positions = continued.continuation(length) if continued else Positions.range(length, device=device)
        if self.position_sampler is not None and not continued:
            positions = self.position_sampler(positions, tokens_BT.shape[0])
        contexts = self_attention_contexts(
            self.encodings, positions, real, cache, causal=self.causal, window=self.window, route=self.route
        )
        ids = tokens_BT if real is None else tokens_BT.masked_fill(~real, PADDING)
        tokens = Tokens(ids if cache is None else cache.append_tokens(ids), contexts[0].key_positions.segments)
        x_BTM = self.dropout(self.encodings.embed(self.embedding(tokens_BT), positions, tokens))
        asked = [None] * len(contexts) if memory is None else memory.asked_from(positions)
        for block, context, memory_of_layer in zip(self.blocks, contexts, asked, strict=True):
            x_BTM = block(x_BTM, context, memory_of_layer)
        normed_BTM: Tensor = self.norm(x_BTM)
        return normed_BTM

    def initialize(self, output: nn.Linear) -> None:
        """Normal weights; the layers that write to the residual stream are smaller, as in GPT-2.

        An encoding keeps what it has chosen itself.

        Args:
            output: what is made of the hidden states.
        """
        residual_scale = (2 * len(self.blocks)) ** -0.5
        for name, module in [*self.blocks.named_modules(), ("readout", output)]:
            if isinstance(module, nn.Linear):
                std = module.in_features**-0.5 * (residual_scale if name.endswith(".output") else 1.0)
                nn.init.normal_(module.weight, std=std)
        nn.init.normal_(self.embedding.weight, std=0.02)


@checked
def stack_shape(
    d_model: Count,
    num_layers: Count,
    num_heads: Count,
    num_kv_heads: Count | None,
    head_dim: Count | None,
    causal: bool,
    digits: Sequence[int] = (),
) -> StackShape:
    """The shape of a stack, with defaults filled in.

    Raises:
        ValueError: for a shape that does not fit together.
    """
    if head_dim is None:
        if d_model % num_heads:
            raise ValueError(f"num_heads must divide d_model={d_model} (or set head_dim), got {num_heads}")
        head_dim = d_model // num_heads
    num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    if num_heads % num_kv_heads:
        raise ValueError(f"num_kv_heads must divide num_heads={num_heads}, got {num_kv_heads}")
    return StackShape(d_model, num_layers, num_heads, num_kv_heads, head_dim, causal, tuple(digits))
