"""Reading of tokens by a stack: their positions, and what its layers need.

Dimension letters: B batch, R registers, T tokens, N = R + T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from poslab.attention import AttentionContext, KeyValueCache, Route, next_positions, self_attention_contexts
from poslab.encodings import Positions, PositionSampler, StackEncodings, Tokens
from poslab.encodings.stack import first_end
from poslab.encodings.tokens import PADDING


@dataclass(frozen=True)
class Reading:
    """Contexts of the layers of a stack that reads new tokens.

    Args:
        contexts: one for each layer.
        positions: of the new tokens, behind those of registers.
        key_positions: of past and new tokens, as the encodings moved them.
        tokens: past and new tokens; None where a caller has embeddings alone.
        order: numbers of the registers (0 to R - 1) and new tokens (from R) in the order of storage, (B, N); None where
            registers stand first in all rows, or there are none.
    """

    contexts: list[AttentionContext]
    positions: Positions
    key_positions: Positions
    tokens: Tokens | None
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
    ) -> Reading:
        """Return the reading of new tokens, which are added to the cache.

        A sampler moves the positions of the first tokens; positions after a cache are used as given.

        Args:
            tokens_BT, positions, real, cache: as in `Model.forward`.
            encodings, causal, window, route: as in `self_attention_contexts`.
            sampler: of positions; None for none.
            registers: number of vectors before the first real token of each row, without a position.
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
    """Return the order of storage, (B, N), in which the registers stand right before the first real token.

    Distances in storage, of windows, biases and convolutions, are then those of a row without padding.
    """
    padding_B1 = real_BN[:, registers:].int().argmax(dim=1, keepdim=True)
    index = torch.arange(real_BN.shape[1], device=real_BN.device)
    behind = torch.where(index < padding_B1 + registers, index - padding_B1, index)
    return torch.where(index < padding_B1, index + registers, behind)


def end_of_positions(
    encodings: StackEncodings, sampler: PositionSampler | None, of_patches: bool = False
) -> int | None:
    """Return the number of tokens, or of patches, at which encodings or a sampler end; None if neither does."""
    end_of_encodings = encodings.max_patches if of_patches else encodings.max_length
    return first_end([end_of_encodings, None if sampler is None else sampler.max_length])
