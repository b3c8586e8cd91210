"""What the attention of one layer is under: made once per forward pass by a model, and handed down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from poslab.attention.attend import Route
from poslab.attention.cache import KeyValueCache, LayerCache
from poslab.attention.visibility import Visibility
from poslab.encodings import PositionalEncoding, Positions, StackEncodings
from poslab.encodings.temperature import Temperature


@dataclass(frozen=True)
class AttentionContext:
    """How the queries of a layer meet its keys.

    Args:
        encoding: what relates queries to keys. The stack owns it: were it a part of each layer that it serves,
            checkpoints would hold it once per layer, and FSDP could not tell which layer's shard it is in.
        tables: the encoding's tables for its queries and all keys.
        key_positions: where the keys are.
        visibility: which keys each query sees.
        temperature: scales logits by how many keys a query sees; None does not.
        route: forces an attention route; `auto` takes the cheapest exact one.
        cache: where keys and values of this layer are kept and found; None keeps nothing.
    """

    encoding: PositionalEncoding
    tables: Any
    key_positions: Positions
    visibility: Visibility
    temperature: Temperature | None = None
    route: Route = "auto"
    cache: LayerCache | None = None


def self_attention_contexts(
    encodings: StackEncodings,
    positions: Positions,
    real: Tensor | None = None,
    cache: KeyValueCache | None = None,
    *,
    causal: bool = True,
    window: int | None = None,
    route: Route = "auto",
) -> list[AttentionContext]:
    """The contexts of all layers of a stack that attends to itself.

    Args:
        encodings: those of the stack.
        positions: of the tokens.
        real: (B, T) bool, False at padding; None has none.
        cache: what came before, to which these tokens are added; None is nothing.
        causal, window: as in `Visibility`; a pattern of encodings can narrow the window of a layer.
        route: as in `attend`.
    """
    key_positions, real_keys = positions, real
    if cache is not None:
        key_positions, real_keys = cache.append_positions(positions, real)
    tables = encodings.prepare(positions, key_positions)
    # Layers that see the same share what is made of it.
    windows = [own if window is None else window if own is None else min(window, own) for own in encodings.windows]
    visibilities = {
        w: Visibility.between(positions, key_positions, causal=causal, window=w, real_keys=real_keys)
        for w in dict.fromkeys(windows)
    }
    return [
        AttentionContext(
            encodings.layer(layer),
            tables[layer],
            key_positions,
            visibilities[windows[layer]],
            encodings.temperature(layer),
            route,
            None if cache is None else cache.layers[layer],
        )
        for layer in range(len(windows))
    ]
