"""Scalings of rotary frequencies: how a spectrum that was trained at one length rotates at another.

A scaling is a pure function of the unscaled inverse frequencies, (r / 2,), in radians per position for the r channels
that rotate (from the base, or what has been learned instead), and, if it has arguments of these
names, of `base`, the frequency base, and `length`, the current length: a number that every key position is below
(`Positions.stop`). It returns the scaled frequencies and an attention factor, whose square multiplies the logits. Its
other arguments are hyperparameters, whose declared ranges `Rotary` checks. With `length` it depends on the length.
`yarn`, `longrope`, `mrrope` and `resonance` have their own files.

Letters: theta(m) = base ** (-2m / r), s factor, L training length, l current length. `theta * L / 2 pi` is the number
of turns of a pair of channels within the training length. None has parameters; each costs r / 2 numbers a forward pass,
and supports causal and bidirectional attention as `Rotary` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from poslab.arguments import NOT_HUGE, Count, Factor, Positive, PositiveFraction, Range
from poslab.encodings.frequencies import inverse_frequencies as geometric_frequencies

TrainingLength = Annotated[int, Range(at_least=2), NOT_HUGE]

Scaling = Callable[..., tuple[Tensor, float]]
"""Maps unscaled inverse frequencies, and `base` or `length` if it has such arguments, to frequencies and a factor."""


def rope_linear(inverse_frequencies: Tensor, factor: Factor = 4.0) -> tuple[Tensor, float]:
    """Interpolate positions: rotate as if they were s times as close (position interpolation).

        theta'(m) = theta(m) / s

    Use it when a trained rotary model is trained a little further in longer windows. Without that, every length
    suffers.

    Args:
        factor: s, target length over training length (at least 1; paper: 4 to 16). With fine-tuning.

    Source: Chen et al., "Extending Context Window of Large Language Models via Positional Interpolation" (2023),
    section 2.3.
    """
    return inverse_frequencies / factor, 1.0


def rope_ntk(inverse_frequencies: Tensor, base: float, factor: Factor = 4.0) -> tuple[Tensor, float]:
    """Enlarge the base, so that the fastest frequency stays and the slowest is divided by s (NTK-aware scaling).

        theta'(m) = (base * s ** (r / (r - 2))) ** (-2m / r)

    Use it when a trained rotary model should read about twice as far without further training.

    Args:
        factor: s (at least 1; its author: 2 to 8). Claimed to extend 2 to 4 times without fine-tuning.

    Source: bloc97, "NTK-Aware Scaled RoPE" (2023), a post; in Peng et al., "YaRN" (2023), section 3.1.
    """
    return _at_another_base(inverse_frequencies, base, factor), 1.0


def rope_dynamic_ntk(
    inverse_frequencies: Tensor, base: float, length: int, training_length: TrainingLength, factor: Factor = 4.0
) -> tuple[Tensor, float]:
    """Enlarge the base beyond the training length, the more the longer the text (dynamic NTK).

        theta'(m) = (base * s' ** (r / (r - 2))) ** (-2m / r),    s' = max(1, s * l / L - (s - 1))

    Depends only on the current length. In transformers the longest text so far sets the base, until one below L comes,
    and cached keys keep the angles of their time; a cache here contains unrotated keys.

    Use it when a trained rotary model should handle somewhat longer texts without further training, and short ones as
    before.

    Args:
        training_length: L, at least 2.
        factor: s (at least 1, usually 1 to 8). With 1 the base is as in `rope_ntk` with factor l / L.

    Claimed to extend without fine-tuning.

    Source: emozilla, "Dynamically Scaled RoPE" (2023), a post; in Peng et al., "YaRN" (2023), section 3.3.
    """
    current = max(1.0, factor * length / training_length - (factor - 1))
    return _at_another_base(inverse_frequencies, base, current), 1.0


def llama3(
    inverse_frequencies: Tensor,
    training_length: TrainingLength,
    factor: Factor = 4.0,
    low_freq_factor: Positive = 1.0,
    high_freq_factor: Positive = 4.0,
) -> tuple[Tensor, float]:
    """Divide frequencies of few turns within L by s, keep frequencies of many, and mix between (Llama 3.1's scaling).

        turns = theta(m) L / 2 pi,    g = clamp((turns - low) / (high - low), 0, 1)
        theta'(m) = (1 - g) theta(m) / s + g theta(m)

    Use it when you load or continue models of Llama 3.1, or train a rotary model further in longer windows.

    Args:
        training_length: L, at least 2 (Llama 3.1: 8,192).
        factor: s (at least 1; Llama 3.1: 8; 3.2: 32).
        low_freq_factor, high_freq_factor: turns within L; `0 < low < high` (1 and 4).

    Claimed for texts up to s L, with further training on long ones.

    Source: the code of Llama 3.1 (2024); the paper, "The Llama 3 Herd of Models", gives only the base.
    """
    if low_freq_factor >= high_freq_factor:
        raise ValueError(
            f"high_freq_factor must be greater than low_freq_factor, which is {low_freq_factor}, got {high_freq_factor}"
        )
    turns = inverse_frequencies * (training_length / (2 * math.pi))
    kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0, 1)
    return (1 - kept) * inverse_frequencies / factor + kept * inverse_frequencies, 1.0


def rotary_proportional(inverse_frequencies: Tensor, proportion: PositiveFraction = 0.75) -> tuple[Tensor, float]:
    """Keep the highest frequencies and stop the rest of the spectrum (p-RoPE).

        theta'(m) = theta(m) if m < p r / 2, else 0

    The frequencies that stay are of the whole spectrum; `fraction` of Rotary is a spectrum over fewer channels.

    Use it when a share of the channels should match by content at any distance: the slowest pairs do not rotate.

    Args:
        proportion: share p of frequencies that stay, in (0, 1], rounded down (paper: 0.75; Gemma 4: 0.25).

    No claim beyond the training length.

    Source: Barbero et al., "Round and Round We Go! What makes Rotary Positional Encodings useful?" (ICLR 2025),
    section 6.
    """
    pairs = len(inverse_frequencies)
    kept = int(proportion * 2 * pairs // 2)
    if not kept:
        raise ValueError(
            f"proportion must keep at least one of {pairs} frequencies, got {proportion}, which keeps none"
        )
    index = torch.arange(pairs, device=inverse_frequencies.device)
    return inverse_frequencies.where(index < kept, 0.0), 1.0


def hope(inverse_frequencies: Tensor, training_length: TrainingLength, cycles: Positive = 1.0) -> tuple[Tensor, float]:
    """Stop frequencies of less than one turn within L (HoPE, high-frequency rotary position encoding).

        theta'(m) = theta(m) if theta(m) >= cycles * 2 pi / L, else 0

    With a cycle or more, every angle in a longer text has been seen, so it is claimed to extrapolate without further
    training. This is the HoPE of arXiv 2410.21216, not the hybrid one for images and text (2505.20444) or the
    hyperbolic one (2509.05218).

    Use it when a rotary model should work beyond its training length: pairs that would meet new angles there do not
    turn.

    Args:
        training_length: L, at least 2.
        cycles: turns within L that a frequency needs to stay (above 0; paper: 1).

    Source: Chen et al., "HoPE: A Novel Positional Encoding Without Long-Term Decay for Enhanced Context Awareness and
    Extrapolation" (2024).
    """
    slowest = cycles * 2 * math.pi / training_length
    if slowest > 1:  # the fastest frequency of every spectrum
        raise ValueError(
            f"cycles must be at most {training_length / (2 * math.pi):.3g}, the turns of the fastest frequency within "
            f"{training_length} tokens, got {cycles}"
        )
    return inverse_frequencies.where(inverse_frequencies >= slowest, 0.0), 1.0


def rope_clipped(
    inverse_frequencies: Tensor, training_length: TrainingLength, clipped: Count | None = None, soft: bool = True
) -> tuple[Tensor, float]:
    """Slow the last n frequencies down to a standstill, the later the more (clipped RoPE, "CoPE" of 2026).

        theta'(m) = theta(m) (1 + cos(pi u)) / 2,    u = (m - (P - n)) / (n - 1),  m = P - n, ..., P - 1,  P = r / 2

    The first of them keeps its frequency and the last does not rotate. A hard clip stops all n: with a number it is
    `rotary_proportional`, with null `hope` with one cycle.

    Use it when a rotary model should work beyond its training length, and stopping the slow pairs at once costs too
    much at short lengths.

    Args:
        training_length: L, at least 2. For a null `clipped`.
        clipped: n, at least 1 and below the number of pairs (authors: 20 of 64 at base 500,000 and L = 8,192). Null is
            the number of pairs that do not complete a turn within L.
        soft: True for the cosine, False for the hard clip.

    For training from the start or a continuation of it, also claimed before YaRN. With n = 1 the soft clip changes
    nothing. Trap: `encoding=cope` is another one, contextual position encoding.

    Source: Li et al., "CoPE: Clipped RoPE as A Scalable Free Lunch for Long Context LLMs" (2026), and its code.
    """
    pairs, slowest = len(inverse_frequencies), 2 * math.pi / training_length
    if clipped is None and slowest > 1:  # the fastest frequency of every spectrum
        raise ValueError(f"clipped must be given where no pair completes a turn within {training_length} tokens")
    if clipped is not None and pairs < 2:
        raise ValueError(f"fraction must rotate at least 4 channels of each head to clip some of them, got {2 * pairs}")
    if clipped is not None and not 1 <= clipped < pairs:
        raise ValueError(f"clipped must leave at least one of {pairs} frequencies, got {clipped}")
    index = torch.arange(pairs, device=inverse_frequencies.device)
    stay = (inverse_frequencies >= slowest).sum() if clipped is None else index.new_tensor(pairs - clipped)
    if not soft:
        return inverse_frequencies.where(index < stay, 0.0), 1.0
    share = ((index - stay).to(inverse_frequencies.dtype) / (pairs - 1 - stay).clamp_min(1)).clamp(0, 1)
    return inverse_frequencies * (1 + (math.pi * share).cos()) / 2, 1.0


def fmrope(inverse_frequencies: Tensor, base: float, training_length: TrainingLength) -> tuple[Tensor, float]:
    """Take the training length as the base (FMRoPE, frequency-matched rotary position embedding).

        theta'(m) = L ** (-2m / r)

    The `base` of the encoding does not matter; factors that were learned on its frequencies are kept.

    Use it when you train a rotary model that should read somewhat beyond its training length: no pair is so slow that
    training hardly rotates it.

    Args:
        training_length: L, at least 2.

    Claimed: a larger base is better within the training length and worse beyond. At test time the authors also set L to
    the length of the text, which makes it better there and worse at short lengths.

    Source: Oka et al., "Frequency Bands in RoPE: Base Frequency and Context Length Shape the
    Interpolation-Extrapolation Trade-off" (ICLR 2026), section 6.
    """
    return _of_base(inverse_frequencies, base, float(training_length)), 1.0


def _at_another_base(inverse_frequencies: Tensor, base: float, factor: float) -> Tensor:
    """Return the spectrum with its slowest frequency divided by the factor, and its fastest kept."""
    rotary_dim = 2 * len(inverse_frequencies)
    if rotary_dim < 4:
        raise ValueError(f"fraction must rotate at least 4 channels of each head to scale their base, got {rotary_dim}")
    return _of_base(inverse_frequencies, base, base * factor ** (rotary_dim / (rotary_dim - 2)))


def _of_base(inverse_frequencies: Tensor, base: float, other: float) -> Tensor:
    """Return the spectrum of another base, with the factors that were learned on its own."""
    frequencies, others = (
        geometric_frequencies(2 * len(inverse_frequencies), b, inverse_frequencies.device, inverse_frequencies.dtype)
        for b in (base, other)
    )
    return inverse_frequencies / frequencies * others  # the quotient is exactly 1 where nothing is learned
