"""Contexts of the layers of a stack that reads tokens, and of its cross-attention to a source.

Dimension letters: B batch, R registers, T tokens, N = R + T, S source tokens, M model dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from poslab.attention import AttentionContext, KeyValueCache, Route, Visibility, next_positions, self_attention_contexts
from poslab.encodings import Positions, PositionSampler, StackEncodings, Tokens
from poslab.encodings.tokens import PADDING


@dataclass(frozen=True)
class StackContext:
    """Contexts of the layers of a stack that reads new tokens."""

    contexts: list[AttentionContext]  # one for each layer
    positions: Positions  # of the new tokens, behind the positions of registers
    key_positions: Positions  # of past and new tokens, as the encodings moved them
    tokens: Tokens | None  # past and new tokens; None where a caller has only embeddings
    # numbers of the registers (0 to R - 1) and new tokens (from R) in the order of storage, (B, N); None where
    # registers are first in all rows, or there are none
    order: Tensor | None = None

    @classmethod
    def of(
        cls,
        tokens_BT: Tensor,
        positions: Positions | None,
        real: Tensor | None,
        cache: KeyValueCache | None,
        encodings: StackEncodings,
        sampler: PositionSampler | None,
        *,
        causal: bool,
        window: int | Sequence[int | None] | None,
        route: Route,
        registers: int = 0,
    ) -> StackContext:
        """Return the context of new tokens, which are added to the cache.

        A sampler moves the positions of the first tokens; positions after a cache are used as given. `registers` is the
        number of vectors before the first real token of each row, without a position. Arguments are otherwise as in
        `Model.forward` and `self_attention_contexts`.
        """
        if positions is None:
            positions = next_positions(tokens_BT, cache)
        if sampler is not None and not cache:
            positions = sampler(positions, tokens_BT.shape[0])
        ids = tokens_BT if real is None else tokens_BT.masked_fill(~real, PADDING)
        order = None
        if cache:
            positions = positions.shifted(cache.registers)
        elif registers:
            if cache is not None:
                cache.registers = registers
            positions = positions.behind(registers)
            ids = functional.pad(ids, (registers, 0), value=PADDING)
            real = None if real is None else functional.pad(real, (registers, 0), value=True)
            if real is not None and positions.places is None:  # patches have no padding on the left
                order = _behind_left_padding(real, registers)
                positions, ids, real = positions.reordered(order), ids.gather(1, order), real.gather(1, order)
        tokens_BS = ids if cache is None else cache.append_tokens(ids)
        contexts = self_attention_contexts(
            encodings, positions, real, cache, causal=causal, window=window, route=route, tokens_BS=tokens_BS
        )
        key_positions = contexts[0].key_positions
        return cls(contexts, positions, key_positions, Tokens(tokens_BS, key_positions.segments), order)


def _behind_left_padding(real_BN: Tensor, registers: int) -> Tensor:
    """Return the order of storage, (B, N), in which the registers are right before the first real token.

    Distances in storage, of windows, biases and convolutions, are then the same as in a row without padding.
    """
    padding_B1 = real_BN[:, registers:].int().argmax(dim=1, keepdim=True)
    index = torch.arange(real_BN.shape[1], device=real_BN.device)
    behind = torch.where(index < padding_B1 + registers, index - padding_B1, index)
    return torch.where(index < padding_B1, index + registers, behind)


class LayerMemory(NamedTuple):
    """A memory as one layer attends to it: the context of its queries, and the states (B, S, M)."""

    context: AttentionContext
    states: Tensor


@dataclass(frozen=True)
class Memory:
    """Output of an encoder for a source, to which a stack attends in addition to its own sequence."""

    tokens: Tensor  # (B, S) ids of the source
    states: Tensor  # (B, S, M), its hidden states
    encodings: StackEncodings  # encodings of the cross-attention
    positions: Positions  # positions of the source
    real: Tensor | None = None  # (B, S) bool, False at padding; None if there is none
    route: Route = "auto"  # forces an attention route
    # cache of its keys and values, which are then computed once for all steps; None recomputes them
    cache: KeyValueCache | None = None

    def for_layers(self, positions: Positions) -> list[LayerMemory]:
        """Return the memory as each layer attends to it from these positions."""
        visibility = Visibility(causal=False, real_keys=self.real)
        layers = []
        for layer, tables in enumerate(self.encodings.prepare(positions, self.positions)):
            encoding, cache = self.encodings.layer(layer), None if self.cache is None else self.cache.layers[layer]
            context = AttentionContext(encoding, tables, self.positions, visibility, route=self.route, cache=cache)
            layers.append(LayerMemory(context, self.states))
        return layers
