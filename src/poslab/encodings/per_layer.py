"""Different encodings in the layers of one stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

from poslab.arguments import Count, Range, checked
from poslab.encodings.absolute.none import NoPosition
from poslab.encodings.base import PositionalEncoding
from poslab.encodings.frequencies import Base
from poslab.encodings.layers import LayerPattern, LayerSpec
from poslab.encodings.rotary import Rotary


@checked
def alternating(
    encodings: Sequence[Callable[..., PositionalEncoding]],
    embedding: Callable[..., PositionalEncoding] | None = None,
) -> LayerPattern:
    """Return several encodings that take turns over the layers, and perhaps one that is mixed into the embeddings.

    Use it when an encoding of the logits should meet one of the embeddings, or layers should have different encodings.
    Windows, chunks and other orders of layers are kinds of layers of the model (`model.layers`).

    Args:
        encodings: factories of encodings; the first layer has the first, and so on in turn.
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
    and a temperature in the layers without position, which `LayerSpec` can have.

    Raises:
        ValueError: for an argument out of its range.

    Source: Yang et al., "Rope to Nope and Back Again: A New Hybrid Attention Strategy" (2025), RNoPE-SWA.
    """
    local = LayerSpec(Rotary if base is None else partial(Rotary, base=base), window)
    return LayerPattern([*[local] * (every - 1), NoPosition])
