"""From one choice of encoding to the encodings of all layers of a stack."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from poslab.encodings.base import PositionalEncoding
from poslab.encodings.positions import Positions

EncodingFactory = Callable[..., PositionalEncoding]
"""An encoding class, or a partial of one with its hyperparameters."""


@dataclass(frozen=True)
class StackShape:
    """What an encoding may ask of the stack of attention layers that it serves."""

    d_model: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    causal: bool = True


class StackEncodings(nn.Module):
    """The encodings of a stack: one instance for all layers where parameters are shared, else one per layer.

    Args:
        factory: makes an encoding; called with its hyperparameters bound and with what it asks for of the shape.
        shape: the stack that the encodings serve.
    """

    def __init__(self, factory: EncodingFactory, shape: StackShape) -> None:
        super().__init__()
        asked_for = inspect.signature(factory).parameters
        arguments = {name: value for name, value in dataclasses.asdict(shape).items() if name in asked_for}
        first = factory(**arguments)
        others = [] if first.shared_by_layers else [factory(**arguments) for _ in range(shape.num_layers - 1)]
        self.num_layers = shape.num_layers
        self.distinct = nn.ModuleList([first, *others])

    def layer(self, index: int) -> PositionalEncoding:
        """The encoding of layer `index`, counted from 0."""
        return self.distinct[index if len(self.distinct) > 1 else 0]  # type: ignore[return-value]

    def __iter__(self) -> Iterator[PositionalEncoding]:
        return iter(self.distinct)  # type: ignore[arg-type]

    @property
    def max_length(self) -> int | None:
        """The number of positions at which the first of the encodings ends; None if none does."""
        return min((encoding.max_length for encoding in self if encoding.max_length is not None), default=None)

    def embed(self, x_BTM: Tensor, positions: Positions, tokens_BT: Tensor | None = None) -> Tensor:
        """Token embeddings with position mixed in, by every encoding that does so."""
        for encoding in self:
            x_BTM = encoding.embed(x_BTM, positions, tokens_BT)
        return x_BTM

    def prepare(self, query_positions: Positions, key_positions: Positions) -> list[Any]:
        """The tables of each layer; layers that share an encoding share its tables."""
        tables = {id(encoding): encoding.prepare(query_positions, key_positions) for encoding in self}
        return [tables[id(encoding)] for encoding in map(self.layer, range(self.num_layers))]
