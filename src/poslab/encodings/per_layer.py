"""Different encodings in the layers of one stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from poslab.arguments import NOT_HUGE, Count, Range, checked, with_checked_arguments
from poslab.encodings.absolute.none import NoPosition
from poslab.encodings.base import PositionalEncoding
from poslab.encodings.frequencies import Base
from poslab.encodings.rotary import Rotary
from poslab.encodings.temperature.base import Temperature

Kind = Annotated[int, Range(at_least=0), NOT_HUGE]
"""Number of a kind of layers, counted from 0."""


@with_checked_arguments
@dataclass(frozen=True)
class PerLayer:
    """Kinds of layers, and the order in which they repeat over the layers of a stack.

    An encoding that shares its parameters has one instance for all layers of its factory. FIRE in all layers, with
    digit embeddings before the first, is `PerLayer([Fire], embedding=Abacus)`.

    Use it when layers should differ, such as local layers beside layers that see the whole text.

    Args:
        encodings: factories of encodings, one for each kind of layers.
        windows: for each kind, the number of last tokens that a token sees, itself included; None for a kind, or for
            all of them, means all tokens.
        embedding: factory of an encoding that is mixed into the embeddings; None for none.
        chunks: for each kind, the number of tokens of the chunks into which a text falls: a token sees those of its own
            chunk alone. Chunks are counted from the beginning of each document, without padding. None for a kind, or
            for all of them, means no chunks.
        temperatures: for each kind, the factory of the factor on its logits; None for a kind, or for all of them, means
            none.
        order: kinds of successive layers, by their numbers from 0, which repeats; None means each kind once.
        from_last: True counts the order from the last layer, which then has its last kind; False from the first one.
        first, last: kinds of the first and the last layer, where they are exceptions; None where they are not.

    Examples:
        >>> from functools import partial
        >>> from poslab.encodings import PerLayer, Rotary
        >>> gemma4 = PerLayer(  # of six layers, five see the last 512 tokens, and the last layer of all sees everything
        ...     [Rotary, partial(Rotary, base=1e6)], [512, None], order=[0, 0, 0, 0, 0, 1], last=1
        ... )
        >>> [gemma4.kind(layer, 8) for layer in range(8)]
        [0, 0, 0, 0, 0, 1, 0, 1]

    Raises:
        ValueError: for no encodings, another list of another length, or a kind that there is not.
    """

    encodings: Sequence[Callable[..., PositionalEncoding]]
    windows: Sequence[Count | None] | None = None
    embedding: Callable[..., PositionalEncoding] | None = None
    chunks: Sequence[Count | None] | None = None
    temperatures: Sequence[Callable[..., Temperature] | None] | None = None
    order: Sequence[Kind] | None = None
    from_last: bool = False
    first: Kind | None = None
    last: Kind | None = None

    def __post_init__(self) -> None:
        kinds = len(self.encodings)
        if not kinds:
            raise ValueError("encodings must name at least one encoding, got none")
        for name, values in (("windows", self.windows), ("chunks", self.chunks), ("temperatures", self.temperatures)):
            if values is not None and len(values) != kinds:
                raise ValueError(f"{name} must have one entry for each of the {kinds} encodings, got {len(values)}")
        if self.order is not None and not self.order:
            raise ValueError("order must name at least one kind of layers, got none")
        for name, named in (("order", self.order or ()), ("first", (self.first,)), ("last", (self.last,))):
            if wrong := [kind for kind in named if kind is not None and kind >= kinds]:
                raise ValueError(f"{name} must name kinds of layers from 0 to {kinds - 1}, got {wrong[0]}")

    @classmethod
    def of(cls, factory: Callable[..., PositionalEncoding] | PerLayer) -> PerLayer:
        """Return the pattern that has a factory in all layers; a pattern as it is."""
        return factory if isinstance(factory, PerLayer) else cls([factory])

    @property
    def repeating(self) -> Sequence[int]:
        """Kinds of successive layers, which repeat."""
        return range(len(self.encodings)) if self.order is None else self.order

    def kind(self, layer: int, num_layers: int) -> int:
        """Return the number of the kind of a layer, counted from 0, in a stack of so many."""
        if layer == 0 and self.first is not None:
            return self.first
        if layer == num_layers - 1 and self.last is not None:
            return self.last
        return self.repeating[(layer - num_layers * self.from_last) % len(self.repeating)]


@checked
def rnope(
    every: Annotated[int, Range(at_least=2), Range(at_most=1000)] = 4,
    window: Count | None = None,
    base: Base | None = None,
) -> PerLayer:
    """Return rotary layers with a sliding window and, every nth, a layer without position over the whole text (RNoPE).

    Position separates near tokens, content alone far ones, so that no angle occurs beyond the window.

    Use it when a decoder has to read far beyond its training length: layers with a window meet no new distance, and
    those without position have none.

    Args:
        every: n, at least 2 (paper: 4); the last of n layers has no position.
        window: tokens that a token sees in the rotary layers, itself included; None for all (Cohere 2: 4,096).
        base: frequency base of the rotary layers (above 1); None is that of `Rotary`.

    No parameters. Causal and bidirectional. Costs what rotary does: a window is a mask here and saves no time. Claimed
    to reach far beyond the training length.

    This is the form of Cohere 2. SmolLM3 has no window; Llama 4 has chunks of 8,192 tokens instead of a sliding window,
    and a temperature in the layers without position, which `PerLayer` can have.

    Raises:
        ValueError: for an argument out of its range.

    Source: Yang et al., "Rope to Nope and Back Again: A New Hybrid Attention Strategy" (2025), RNoPE-SWA.
    """
    local: Callable[..., PositionalEncoding] = Rotary if base is None else partial(Rotary, base=base)
    return PerLayer([*[local] * (every - 1), NoPosition], [*[window] * (every - 1), None])
