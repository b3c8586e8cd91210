"""Different encodings in the layers of one stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from poslab.arguments import Count, Range, checked, with_checked_arguments
from poslab.encodings.absolute.none import NoPosition
from poslab.encodings.base import PositionalEncoding
from poslab.encodings.frequencies import Base
from poslab.encodings.rotary import Rotary


@with_checked_arguments
@dataclass(frozen=True)
class PerLayer:
    """Pattern of encodings that repeats over the layers of a stack.

    An encoding that shares its parameters has one instance for all layers of its factory. FIRE in all layers, with
    digit embeddings before the first, is `PerLayer([Fire], embedding=Abacus)`.

    Use it when layers should differ, such as local layers beside layers that see the whole text.

    Args:
        encodings: factories of encodings, one for each layer of the pattern.
        windows: for each layer of the pattern, the number of last tokens that a token sees, itself included; None in a
            layer, or for all of them, means all tokens.
        embedding: factory of an encoding that is mixed into the embeddings; None for none.

    Raises:
        ValueError: for an empty pattern, or windows of another length.
    """

    encodings: Sequence[Callable[..., PositionalEncoding]]
    windows: Sequence[Count | None] | None = None
    embedding: Callable[..., PositionalEncoding] | None = None

    def __post_init__(self) -> None:
        if not self.encodings:
            raise ValueError("encodings must name at least one encoding, got none")
        if self.windows is not None and len(self.windows) != len(self.encodings):
            raise ValueError(
                f"windows must have one entry for each of the {len(self.encodings)} encodings, got {len(self.windows)}"
            )


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
    and a temperature in the layers without position.

    Raises:
        ValueError: for an argument out of its range.

    Source: Yang et al., "Rope to Nope and Back Again: A New Hybrid Attention Strategy" (2025), RNoPE-SWA.
    """
    local: Callable[..., PositionalEncoding] = Rotary if base is None else partial(Rotary, base=base)
    return PerLayer([*[local] * (every - 1), NoPosition], [*[window] * (every - 1), None])
