"""Memory of a source for cross-attention. Dimension letters: B batch, S source tokens, M model dim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from poslab.attention import AttentionContext, KeyValueCache, Route, Visibility
from poslab.encodings import Positions, StackEncodings


class LayerMemory(NamedTuple):
    """A memory as one layer attends to it: the context of its queries, and the states (B, S, M)."""

    context: AttentionContext
    states: Tensor


@dataclass(frozen=True)
class Memory:
    """Output of an encoder for a source, to which a stack attends beside its own sequence.

    Args:
        tokens: (B, S) ids of the source.
        states: (B, S, M), its hidden states.
        encodings: encodings of the cross-attention.
        positions: positions of the source.
        real: (B, S) bool, False at padding; None if there is none.
        route: forces an attention route.
        cache: cache of its keys and values, which are then computed once for all steps; None recomputes them.
    """

    tokens: Tensor
    states: Tensor
    encodings: StackEncodings
    positions: Positions
    real: Tensor | None = None
    route: Route = "auto"
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
