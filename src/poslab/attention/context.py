"""Context of one layer's attention, made by a model once per forward pass.

Dimension letters: B batch, H query heads, G key-value heads, T new tokens, S all tokens, D head dim, E numbers of a
token's state, M model dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from poslab.attention.attend import attend
from poslab.attention.cache import KeyValueCache, LayerCache
from poslab.attention.routes import Route
from poslab.attention.visibility import Visibility
from poslab.encodings import PositionalEncoding, Positions, StackEncodings, Tokens
from poslab.encodings.stack import first_end
from poslab.encodings.temperature import Temperature


@dataclass(frozen=True)
class AttentionContext:
    """Relation of a layer's queries to its keys.

    Args:
        encoding: encoding of queries and keys. The stack owns it: as a part of each of its layers, it would be
            in checkpoints once per layer, and FSDP could not decide which layer's shard it belongs to.
        tables: the encoding's tables for the queries and all keys.
        key_positions: positions of the keys, as the encodings moved them.
        visibility: keys that each query sees.
        temperature: factor on the logits by the number of visible keys; None for none.
        route: forces an attention route; `auto` is the cheapest exact one.
        cache: cache of this layer's keys and values; None for none.
        sinks: logit of the sink of each head, (H,); None for none.
        softcap: as in `attend`.
    """

    encoding: PositionalEncoding
    tables: Any
    key_positions: Positions
    visibility: Visibility
    temperature: Temperature | None = None
    route: Route = "auto"
    cache: LayerCache | None = None
    sinks: Tensor | None = None
    softcap: float | None = None

    def state(self, x_BTM: Tensor) -> Tensor | None:
        """Return the encoding's state of the new tokens, (B, H, T, E), by the input of the layer; None without one."""
        past = None if self.cache is None else self.cache.state
        return self.encoding.state(x_BTM, self.key_positions, past)

    def append(
        self, k_BGTD: Tensor, v_BGTD: Tensor, state_BHTE: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Add the keys, values and state of the new tokens to the cache, if there is one; return them for all S."""
        if self.cache is None:
            return k_BGTD, v_BGTD, state_BHTE
        k_BGSD, v_BGSD, *state = self.cache.append(k_BGTD, v_BGTD, *([] if state_BHTE is None else [state_BHTE]))
        return k_BGSD, v_BGSD, state[0] if state else None

    def attend(self, q_BHTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, state_BHSE: Tensor | None = None) -> Tensor:
        """Return the attention output, (B, H, T, D); arguments and errors as in the function `attend`."""
        return attend(
            q_BHTD,
            k_BGSD,
            v_BGSD,
            self.encoding,
            self.tables,
            self.visibility,
            self.route,
            state_BHSE=state_BHSE,
            temperature=self.temperature,
            sinks_H=self.sinks,
            softcap=self.softcap,
        )


def self_attention_contexts(
    encodings: StackEncodings,
    positions: Positions,
    real: Tensor | None = None,
    cache: KeyValueCache | None = None,
    *,
    causal: bool = True,
    window: int | Sequence[int | None] | None = None,
    route: Route = "auto",
    tokens_BS: Tensor | None = None,
) -> list[AttentionContext]:
    """Return the contexts of all layers of a stack that attends to itself.

    Args:
        encodings: encodings of the stack.
        positions: positions of the tokens.
        real: (B, T) bool, False at padding; None if there is none.
        cache: cache of earlier tokens, to which these are added; None if there are none.
        causal, window: as in `Visibility`, one window for all layers or one for each; a pattern of encodings can narrow
            them, and cut the text into chunks.
        route: as in `attend`.
        tokens_BS: ids of past and new tokens, as in `Tokens`, by which an encoding may move positions; None without.
    """
    key_positions, real_keys = positions, real
    if cache is not None:
        key_positions, real_keys = cache.append_positions(positions, real)
    tokens = None if tokens_BS is None else Tokens(tokens_BS, key_positions.segments)
    windows = list(window) if isinstance(window, Sequence) else [window] * len(encodings.windows)
    contexts = contexts_of_layers(
        encodings, positions, key_positions, real_keys, tokens, causal=causal, windows=windows, route=route
    )
    if cache is None:
        return contexts
    return [replace(context, cache=layer) for context, layer in zip(contexts, cache.layers, strict=True)]


def contexts_of_layers(
    encodings: StackEncodings,
    query_positions: Positions,
    key_positions: Positions,
    real_keys: Tensor | None,
    tokens: Tokens | None,
    *,
    causal: bool,
    windows: Sequence[int | None],
    route: Route,
    dropped: int | Tensor = 0,
    chunks: Sequence[int | None] = (),
) -> list[AttentionContext]:
    """Return the contexts of all layers, without a cache.

    Args:
        encodings, route: as in `self_attention_contexts`.
        query_positions: positions of the T queries.
        key_positions: positions of all S keys; the last T belong to the queries.
        real_keys, causal: as in `Visibility`.
        tokens: tokens up to the last key; None without any.
        windows: as in `Visibility`, one for each layer.
        dropped: as in `Visibility.between`.
        chunks: tokens of the chunks of each layer, where its encoding has none; empty for none.
    """
    tables = encodings.prepare(query_positions, key_positions, tokens)
    moved_keys = encodings.remap_positions(key_positions, tokens)
    # Layers with the same window and chunks share one visibility, and the masks made of it.
    both = zip(windows, encodings.windows, strict=True)
    narrower = [first_end(pair) for pair in both]
    of_stack = encodings.chunks
    rules = list(
        zip(narrower, [first_end(pair) for pair in zip(chunks or of_stack, of_stack, strict=True)], strict=True)
    )
    between = partial(
        Visibility.between, query_positions, key_positions, causal=causal, real_keys=real_keys, dropped=dropped
    )
    visibilities = {(window, chunk): between(window=window, chunk=chunk) for window, chunk in dict.fromkeys(rules)}
    return [
        AttentionContext(
            encodings.layer(i),
            tables[i],
            moved_keys,
            visibilities[rule],
            encodings.temperature(i),
            route,
            sinks=encodings.sinks_of(i),
        )
        for i, rule in enumerate(rules)
    ]
