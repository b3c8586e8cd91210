from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from poslab.attention import AttentionContext, KeyValueCache, Route, Visibility
from poslab.encodings import Positions, StackEncodings


class LayerMemory(NamedTuple):
    """A memory as one layer attends to it.

    Args:
        context: how the layer's queries meet the keys of the memory.
        states: (B, S, M), the memory itself.
    """

    context: AttentionContext
    states: Tensor


@dataclass(frozen=True)
class Memory:
    """What a stack attends to beside its own sequence: what an encoder has made of a source.

    Args:
        tokens: (B, S) ids, the source itself.
        states: (B, S, M), its hidden states.
        encodings: of the attention to it.
        positions: of the source.
        real: (B, S) bool, False at padding; None has none.
        route: forces an attention route.
        cache: keeps its keys and values, which are then made once however often it is asked; None makes them anew.
    """

    tokens: Tensor
    states: Tensor
    encodings: StackEncodings
    positions: Positions
    real: Tensor | None = None
    route: Route = "auto"
    cache: KeyValueCache | None = None

    def asked_from(self, positions: Positions) -> list[LayerMemory]:
        """The memory as each layer attends to it from these positions."""
        tables = self.encodings.prepare(positions, self.positions)
        visibility = Visibility(causal=False, real_keys=self.real)
        return [
            LayerMemory(
                AttentionContext(
                    self.encodings.layer(layer),
                    tables[layer],
                    self.positions,
                    visibility,
                    route=self.route,
                    cache=None if self.cache is None else self.cache.layers[layer],
                ),
                self.states,
            )
            for layer in range(len(tables))
        ]
