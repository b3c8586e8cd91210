"""Specifications of the layers of a stack, which may differ. Dimension letters: B batch, T tokens, M model dim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar

from torch import Tensor, nn

from poslab.arguments import NOT_HUGE, Count, Range, checked, with_checked_arguments
from poslab.encodings.absolute.none import NoPosition
from poslab.encodings.base import PositionalEncoding
from poslab.encodings.frequencies import Base
from poslab.encodings.rotary import Rotary
from poslab.encodings.temperature import Temperature

Kind = Annotated[int, Range(at_least=0), NOT_HUGE]
"""Number of a kind of layers, counted from 0."""


class SequenceMixer(nn.Module):
    """Base class of layers that mix the tokens of a sequence instead of attention, such as linear recurrences.

    Constructor arguments named as the fields of `StackShape`, or `shape`, are filled in from the stack. The output
    projection should be a linear layer `output`, whose first weights are then as small as attention's.
    """

    causal_only: ClassVar[bool] = True
    """True if its tokens see only themselves and those before them."""

    def forward(self, x_BTM: Tensor, context: Any) -> Tensor:
        """Return the output for the new tokens, (B, T, M).

        Args:
            x_BTM: normalised input of the layer.
            context: `AttentionContext` of the layer: `visibility.real_keys` and `key_positions.segments` mark padding
                and documents, and `cache.recurrent` keeps tensors (B, ...) for the tokens that follow.
        """
        raise NotImplementedError


@with_checked_arguments
@dataclass(frozen=True)
class LayerSpec:
    """Specification of a kind of layers; what is None is as in the rest of the model.

    Args:
        encoding: factory of its encoding; `NoPosition` for none. None: the encoding of the model.
        window: number of last tokens that a token sees, itself included; None: all.
        chunk: number of tokens of the chunks into which a text falls: a token sees only its own chunk. Chunks are
            counted from the beginning of each document, without padding. None: no chunks.
        temperature: factory of the factor on its logits; None: the temperature of the model.
        sinks: True gives its heads an attention sink, a learned logit that joins the softmax without a value.
        mixer: factory of a mixer instead of attention, which has none of the others. None: attention.

    Raises:
        ValueError: for a mixer with what only attention has.
    """

    plain_node: ClassVar[bool] = True
    """A mapping without `_target_` makes it in a configuration."""

    encoding: Callable[..., PositionalEncoding] | None = None
    window: Count | None = None
    chunk: Count | None = None
    temperature: Callable[..., Temperature] | None = None
    sinks: bool = False
    mixer: Callable[..., SequenceMixer] | None = None

    def __post_init__(self) -> None:
        if self.mixer is not None and replace(self, mixer=None) != LayerSpec():
            raise ValueError("mixer must be null in a layer with encoding, window, chunk, temperature or sinks")


@with_checked_arguments
@dataclass(frozen=True)
class LayerPattern:
    """Kinds of layers, and the order in which they repeat over the layers of a stack.

    An encoding that shares its parameters has one instance for all layers of its factory. FIRE in all layers, with
    digit embeddings before the first, is `LayerPattern([Fire], embedding=Abacus)`.

    Use it when layers should differ, such as layers with a window next to layers that see the whole text.

    Args:
        kinds: specification of each kind of layers; a factory of encodings is a kind with that encoding.
        order: kinds of successive layers, by their numbers from 0, which repeats; None means each kind once.
        from_last: True counts the order from the last layer, which then has its last kind; False from the first one.
        first, last: kinds of the first and the last layer, where they are exceptions; None where they are not.
        embedding: factory of an encoding that is mixed into the embeddings; None for none.

    Examples:
        >>> from functools import partial
        >>> from poslab.encodings import LayerPattern, LayerSpec, Rotary
        >>> gemma4 = LayerPattern(  # of six layers, five see the last 512 tokens, and the last layer sees everything
        ...     [LayerSpec(Rotary, window=512), partial(Rotary, base=1e6)], order=[0, 0, 0, 0, 0, 1], last=1
        ... )
        >>> [gemma4.kind(layer, 8) for layer in range(8)]
        [0, 0, 0, 0, 0, 1, 0, 1]

    Raises:
        ValueError: for no kinds, or a kind that there is not.
    """

    plain_node: ClassVar[bool] = True
    """A mapping without `_target_` makes it in a configuration."""

    kinds: Sequence[LayerSpec | Callable[..., PositionalEncoding]]
    order: Sequence[Kind] | None = None
    from_last: bool = False
    first: Kind | None = None
    last: Kind | None = None
    embedding: Callable[..., PositionalEncoding] | None = None

    def __post_init__(self) -> None:
        if not self.kinds:
            raise ValueError("kinds must name at least one kind of layers, got none")
        if self.order is not None and not self.order:
            raise ValueError("order must name at least one kind of layers, got none")
        for name, named in (("order", self.order or ()), ("first", (self.first,)), ("last", (self.last,))):
            if wrong := [kind for kind in named if kind is not None and kind >= len(self.kinds)]:
                raise ValueError(f"{name} must name kinds of layers from 0 to {len(self.kinds) - 1}, got {wrong[0]}")

    @classmethod
    def of(cls, factory: Callable[..., PositionalEncoding] | LayerPattern) -> LayerPattern:
        """Return the pattern that has a factory in all layers; a pattern unchanged."""
        return factory if isinstance(factory, LayerPattern) else cls([factory])

    def under(self, encoding: Callable[..., PositionalEncoding] | LayerPattern) -> LayerPattern:
        """Return the pattern with an encoding in the kinds that have none.

        Raises:
            ValueError: for an encoding that is a pattern itself, and if all kinds have their own encoding.
        """
        pattern = LayerPattern.of(encoding)
        if len(pattern.specs) > 1 or pattern.specs[0] != LayerSpec(pattern.specs[0].encoding):
            raise ValueError("layers must be null under an encoding that has kinds of layers itself")
        attends = [spec for spec in self.specs if spec.mixer is None]
        if attends and all(spec.encoding is not None for spec in attends):
            raise ValueError("layers must have a kind without its own encoding, for the encoding of the model")
        given = pattern.specs[0].encoding
        kinds = [spec if spec.mixer or spec.encoding else replace(spec, encoding=given) for spec in self.specs]
        return replace(self, kinds=kinds, embedding=self.embedding or pattern.embedding)

    @property
    def specs(self) -> list[LayerSpec]:
        """Specification of each kind."""
        return [kind if isinstance(kind, LayerSpec) else LayerSpec(kind) for kind in self.kinds]

    @property
    def repeating(self) -> Sequence[int]:
        """Kinds of successive layers, which repeat."""
        return range(len(self.kinds)) if self.order is None else self.order

    def kind(self, layer: int, num_layers: int) -> int:
        """Return the number of the kind of a layer, counted from 0, in a stack of so many."""
        if layer == 0 and self.first is not None:
            return self.first
        if layer == num_layers - 1 and self.last is not None:
            return self.last
        return self.repeating[(layer - num_layers * self.from_last) % len(self.repeating)]

    def of_layers(self, num_layers: int) -> list[LayerSpec]:
        """Return the specification of each layer of a stack."""
        return [self.specs[self.kind(layer, num_layers)] for layer in range(num_layers)]


def encoding_of(spec: LayerSpec) -> Callable[..., PositionalEncoding]:
    """Return the factory of the encoding of a layer, which is without position unless it names one."""
    return spec.encoding or NoPosition


@checked
def alternating(
    encodings: Sequence[Callable[..., PositionalEncoding]], embedding: Callable[..., PositionalEncoding] | None = None
) -> LayerPattern:
    """Return several encodings that alternate over the layers, and perhaps one that is mixed into the embeddings.

    Use it when an encoding of the logits should meet one of the embeddings, or layers should have different encodings.
    Windows, chunks and other orders of layers are kinds of layers of the model (`model.layers`).

    Args:
        encodings: factories of encodings; the first layer has the first, and so on.
        embedding: factory of an encoding that is mixed into the embeddings; None for none.

    Raises:
        ValueError: for no encodings.
    """
    if not encodings:
        raise ValueError("encodings must name at least one encoding, got none")
    return LayerPattern(encodings, embedding=embedding)


@checked
def rnope(
    every: Annotated[int, Range(at_least=2), Range(at_most=1000)] = 4,
    window: Count | None = None,
    base: Base | None = None,
) -> LayerPattern:
    """Return rotary layers with a sliding window and, every nth, a layer without position over the whole text (RNoPE).

    Position separates near tokens, only content far ones, so that no angle occurs beyond the window.

    Use it when a decoder has to read far beyond its training length: layers with a window meet no new distance, and
    those without position have none.

    Args:
        every: n, at least 2 (paper: 4); the last of n layers has no position.
        window: tokens that a token sees in the rotary layers, itself included; None for all (Cohere 2: 4,096).
        base: frequency base of the rotary layers (above 1); None is the base of `Rotary`.

    No parameters. Causal and bidirectional. Costs what rotary does: a window is a mask here and saves no time. Claimed
    to reach far beyond the training length.

    This is the form of Cohere 2. SmolLM3 has no window; Llama 4 has chunks of 8,192 tokens instead of a sliding window,
    and a temperature in the layers without position, which `LayerSpec` can have.

    Source: Yang et al., "Rope to Nope and Back Again: A New Hybrid Attention Strategy" (2025), RNoPE-SWA.
    """
    local = LayerSpec(Rotary if base is None else partial(Rotary, base=base), window)
    return LayerPattern([*[local] * (every - 1), NoPosition])
