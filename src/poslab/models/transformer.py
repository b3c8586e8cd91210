"""Decoder and encoder: stacks of transformer blocks under a positional encoding, with an output layer.

Dimension letters: B batch, T tokens, P numbers of a patch, R registers, M model dim, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from poslab.arguments import CheckedArguments, Count, Range
from poslab.attention import KeyValueCache, choose_route
from poslab.compiled.rows import RMSNorm
from poslab.encodings import Positions, StackEncodings
from poslab.encodings.stack import first_end
from poslab.encodings.tokens import PATCH
from poslab.models.blocks import Block, StackConfig
from poslab.models.contexts import Memory, StackContext
from poslab.models.model import Model, Outputs, Pooling

Number = Annotated[int, Range(at_least=0), Range(at_most=10_000)]
"""Number of registers."""


class PatchEmbedding(nn.Module):
    """Embeddings of tokens some of which are patches: `W patch + b` for a patch, the row of a table for any other.

    The weights of a patch of unit variance begin so that its embedding is as large as another token's (standard
    deviation 0.02): an encoding that is mixed into embeddings then meets both alike.

    Args:
        width: number of values of a patch, P.
        d_model: width M.
    """

    def __init__(self, width: int, d_model: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, d_model)
        nn.init.normal_(self.projection.weight, std=0.02 * width**-0.5)
        nn.init.zeros_(self.projection.bias)

    def forward(self, tokens_BT: Tensor, patches_BTP: Tensor, table: nn.Embedding) -> Tensor:
        """Return the embeddings of all tokens, (B, T, M).

        Args:
            tokens_BT: ids, `PATCH` at patches; a negative one of any other token, such as padding, counts as 0.
            patches_BTP: values of the patches; not read elsewhere.
            table: embeddings of the other tokens.
        """
        projected_BTM = self.projection(patches_BTP.to(self.projection.weight.dtype))
        return torch.where((tokens_BT == PATCH).unsqueeze(-1), projected_BTM, table(tokens_BT.clamp_min(0)))


class Transformer(CheckedArguments, nn.Module):
    """Stack of blocks under a positional encoding, from tokens to hidden states: the base of all models.

    Pre-norm, RMSNorm, gated feed-forward layers, no biases.

    Args:
        stack: configuration of the stack.
        vocab_size: number of tokens V.
        digits: ids of the tokens that are one digit each, for encodings that need them.
        cross_attention: True if each block also attends to a memory.
        patch_width: number of values P of a patch, for tokens that are patches; None has none.
        num_registers: number R of learned vectors before the tokens of each sequence, without a position.

    Raises:
        ValueError: for sizes that do not fit, a route not exact for the encoding, or a causal encoding in another
            stack.
    """

    causal: ClassVar[bool]
    """True if a token sees only itself and those before it."""

    block_class: ClassVar[type[nn.Module]] = Block
    """Class of its blocks, made and called as `Block` is.

    A block with additional arguments reads them from a subclass of `StackConfig`, which the constructor of its model
    names as the annotation of `stack`.
    """

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: Count,
        digits: Sequence[int] = (),
        cross_attention: bool = False,
        patch_width: Count | None = None,
        num_registers: Number = 0,
    ) -> None:
        super().__init__()
        self.stack = stack
        self.shape = stack.shape(self.causal, digits)
        self.position_sampler = stack.positions
        self.encodings = StackEncodings(stack.pattern, self.shape, stack.temperature)
        for instance in self.encodings:
            choose_route(instance, stack.attention)
            if stack.positions is not None:
                stack.positions.check(instance)
        self.embedding = nn.Embedding(vocab_size, stack.d_model)
        self.dropout = nn.Dropout(stack.dropout)
        self.blocks = nn.ModuleList(
            self.block_class(stack, self.shape, layer, cross_attention) for layer in range(stack.num_layers)
        )
        self.norm = RMSNorm(stack.d_model)
        self.patches = None if patch_width is None else PatchEmbedding(patch_width, stack.d_model)
        self.num_registers = num_registers
        self.registers = nn.Parameter(0.02 * torch.randn(num_registers, stack.d_model)) if num_registers else None

    @property
    def vocab_size(self) -> int:
        """Number of tokens V."""
        return self.embedding.num_embeddings

    @property
    def max_length(self) -> int | None:
        """Number of tokens at which its encoding or its position sampler ends; None if neither does."""
        end = self.encodings.end_with(self.position_sampler, of_patches=self.patches is not None)
        return None if end is None else end - self.num_registers

    @property
    def is_recurrent(self) -> bool:
        """True if it has short convolutions, or mixers other than attention."""
        return self.stack.canon is not None or any(spec.mixer for spec in self.encodings.specs)

    def new_cache(self) -> KeyValueCache:
        """Return an empty cache for reading a text piece by piece."""
        return KeyValueCache(len(self.blocks))

    def hidden_states(
        self,
        tokens_BT: Tensor,
        positions: Positions | None = None,
        real: Tensor | None = None,
        cache: KeyValueCache | None = None,
        memory: Memory | None = None,
        patches: Tensor | None = None,
        *,
        with_registers: bool = False,
    ) -> Tensor:
        """Return the normalised output of the last block, (B, T, M), or (B, R + T, M) with registers.

        A sampler moves the positions of the first tokens; positions after a cache are used as given.

        Args:
            tokens_BT, positions, real, cache, patches: as in `Model.forward`.
            memory: source of the cross-attention, given if and only if the blocks have one.
            with_registers: True returns the states of registers too, unless they are in the cache.
        """
        stack_context = StackContext.of(
            tokens_BT,
            positions,
            real,
            cache,
            self.encodings,
            self.position_sampler,
            causal=self.causal,
            window=self.stack.window,
            route=self.stack.attention,
            registers=self.num_registers,
        )
        if patches is None:
            x_BTM = self.embedding(tokens_BT)
        else:
            assert self.patches is not None, "a model of patches is made with their width"
            x_BTM = self.patches(tokens_BT, patches, self.embedding)
        if self.registers is not None and stack_context.positions.length > x_BTM.shape[1]:
            x_BTM = torch.cat([self.registers.to(x_BTM.dtype).expand(len(x_BTM), -1, -1), x_BTM], dim=1)
        if stack_context.order is not None:
            x_BTM = _gathered(x_BTM, stack_context.order)
        x_BTM = self.dropout(self.encodings.embed(x_BTM, stack_context.positions, stack_context.tokens))
        memories = [None] * len(self.blocks) if memory is None else memory.for_layers(stack_context.positions)
        for block, context, memory_of_layer in zip(self.blocks, stack_context.contexts, memories, strict=True):
            x_BTM = block(x_BTM, context, memory_of_layer)
        normed_BTM: Tensor = self.norm(x_BTM)
        if stack_context.order is not None:
            normed_BTM = _gathered(normed_BTM, stack_context.order.argsort(dim=1))
        return normed_BTM[:, -tokens_BT.shape[1] :] if self.num_registers and not with_registers else normed_BTM

    def initialize(self, output: nn.Linear) -> None:
        """Draw normal weights, also of `output`; those that write to the residual stream are smaller, as in GPT-2.

        An encoding keeps its own initial values.
        """
        residual_scale = (2 * len(self.blocks)) ** -0.5
        for name, module in [*self.blocks.named_modules(), ("readout", output)]:
            if isinstance(module, nn.Linear):
                std = module.in_features**-0.5 * (residual_scale if name.endswith(".output") else 1.0)
                nn.init.normal_(module.weight, std=std)
        nn.init.normal_(self.embedding.weight, std=0.02)


def _gathered(x_BTM: Tensor, order_BT: Tensor) -> Tensor:
    """Return the vectors (B, T, M) of each row in another order (B, T)."""
    return x_BTM.gather(1, order_BT.unsqueeze(-1).expand(-1, -1, x_BTM.shape[-1]))


class SequenceModel(Transformer, Model):
    """A transformer with an output layer.

    Args:
        stack, vocab_size, digits: as in `Transformer`.
        outputs: output layer; None means token logits at each token.
        tie_embeddings: True if the output layer of token logits shares the matrix of the token embeddings.
        pooling: hidden state that represents a sequence as a whole; None is the last if the model is causal, else the
            mean. The first token of a causal model sees only itself. The mean is over tokens, not registers; with
            registers, `first` is the state of the first one, a class token.
        patch_width: number of values of a patch, for data of patches; None has none.
        registers: number of learned vectors before the tokens, without a position; 0 has none.

    Raises:
        ValueError: as `Transformer` does.
    """

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: Count,
        outputs: Outputs | None = None,
        digits: Sequence[int] = (),
        tie_embeddings: bool = True,
        pooling: Pooling | None = None,
        patch_width: Count | None = None,
        registers: Number = 0,
    ) -> None:
        super().__init__(stack, vocab_size, digits, patch_width=patch_width, num_registers=registers)
        if outputs is not None and outputs.pooled:
            self.pooling = pooling or ("last" if self.causal else "mean")
        self.predicts_tokens = outputs is None
        self.output = nn.Linear(stack.d_model, vocab_size if outputs is None else outputs.size, bias=False)
        self.initialize(self.output)
        if tie_embeddings and outputs is None:
            self.output.weight = self.embedding.weight

    @property
    def windows(self) -> Sequence[int | None]:
        return [first_end([self.stack.window, window]) for window in self.encodings.windows]

    @property
    def attention_sites(self) -> Sequence[nn.Module]:
        """Blocks of the stack."""
        return list(self.blocks)

    @property
    def task_output(self) -> nn.Module | None:
        """Output layer, unless it computes token logits."""
        return None if self.predicts_tokens else self.output

    def pooled_states(self, *read: Any, **named: Any) -> Tensor:
        if self.pooling == "first" and self.num_registers:
            return self.hidden_states(*read, **named, with_registers=True)[:, 0]
        return super().pooled_states(*read, **named)

    def logits(self, hidden_BTM: Tensor) -> Tensor:
        return self.output(hidden_BTM)


class Decoder(SequenceModel):
    """Causal transformer: each token sees itself and those before it, and its outputs are logits of the next."""

    causal = True
    capabilities = frozenset({"causal", "cache", "pooled", "patches", "context_parallel"})


class Encoder(SequenceModel):
    """Bidirectional transformer: each token sees all of its sequence."""

    causal = False
    capabilities = frozenset({"bidirectional", "pooled", "patches"})
