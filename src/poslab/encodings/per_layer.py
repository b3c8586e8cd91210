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
    """A pattern of encodings over the layers of a stack: the first layer has the first, and so on, round and round.

    An encoding that shares its parameters has one instance for all layers that its maker serves. FIRE in all layers,
    and digits told apart before the first, is `PerLayer([Fire], embedding=Abacus)`.

    Args:
        encodings: makers of encodings, one for each layer of the pattern.
        windows: how many of the last tokens each token sees in each layer of the pattern, itself included; None for a
            layer sees all, and None in all sees all everywhere.
        embedding: makes one that is mixed into embeddings beside those of the layers; None has none.

    Raises:
        ValueError: for an empty pattern, or windows that do not fit it.
    """

    encodings: Sequence[Callable[..., PositionalEncoding]]
    windows: Sequence[Count | None] | None = None
    embedding: Callable[..., PositionalEncoding] | None = None

    def __post_init__(self) -> None:
        if not self.encodings:
            raise ValueError("encodings must name at least one encoding, got none")
        for maker in self.encodings:
            if not callable(maker):
                raise ValueError(
                    f"encodings must each have a _target_, as the choices in conf/encoding do, got {maker!r}"
                )
        if self.windows is not None and len(self.windows) != len(self.encodings):
            raise ValueError(
                f"windows must have one entry for each of the {len(self.encodings)} encodings, got {len(self.windows)}"
            )


@checked
def rnope(
    every: Annotated[int, Range(at_least=2), Range(at_most=1000)] = 4,
    window: Count | None = None,
    base: Base = 10_000.0,
) -> PerLayer:
    """Rotary in a sliding window, and in every nth layer no position over the whole text.

    What is near is told apart by its position, what is far by its content alone, so that no angle is met past the
    window.

    Args:
        every: n, at least 2 (paper: 4); the last of n layers has no position.
        window: tokens that a token sees in the layers with positions, itself included; None sees all (Cohere 2:
            4,096).
        base: frequency base of the rotary layers (above 1).

    No parameters. Causal and bidirectional. Costs what rotary does: a window is a mask here and saves no time. Claimed
    to reach far beyond the training length.

    As Cohere 2. SmolLM3 has no window, and Llama 4 has chunks of 8,192 tokens and not a sliding window; it adds a
    temperature to the layers without position.

    Raises:
        ValueError: for an argument out of its range.

    Source: Yang et al., "Rope to Nope and Back Again: A New Hybrid Attention Strategy" (2025), RNoPE-SWA.
    """
    local: Callable[..., PositionalEncoding] = partial(Rotary, base=base)
    return PerLayer([*[local] * (every - 1), NoPosition], [*[window] * (every - 1), None])
