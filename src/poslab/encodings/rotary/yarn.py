"""YaRN: a ramp of rotary frequencies, and sharper logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from poslab.arguments import Factor, Positive
from poslab.encodings.frequencies import inverse_frequencies as geometric_frequencies
from poslab.encodings.rotary.scalings import TrainingLength


def yarn(
    inverse_frequencies: Tensor,
    base: float,
    training_length: TrainingLength,
    factor: Factor = 4.0,
    beta_fast: Positive = 32.0,
    beta_slow: Positive = 1.0,
    truncate: bool = True,
    attention_factor: Positive | None = None,
) -> tuple[Tensor, float]:
    """Keep fast frequencies, divide slow ones by s, and sharpen logits (YaRN).

        theta'(m) = (1 - ramp(m)) theta(m) + ramp(m) theta(m) / s
        logit = (0.1 ln s + 1)^2 q' . k' / sqrt(D)

    The ramp is 0 up to the pair of `beta_fast` turns within L, 1 from the pair of `beta_slow` turns, and
    linear in the index m between, as in the authors' code and all others; the paper's ramp is linear in the number
    of turns (frequencies differ by up to a factor 2). 128 channels, base 10,000, L = 4,096: from 20 to 46. Claimed for
    texts up to s L, after a short fine-tuning.

    Use it when a trained rotary model should handle several times its length after a short fine-tuning.

    Args:
        training_length: L, at least 2.
        factor: s (at least 1; paper: 16 and 32).
        beta_fast, beta_slow: turns within L; `beta_fast > beta_slow > 0` (paper: 32 and 1).
        truncate: True rounds the ends of the ramp outwards to whole pairs (authors' code: yes; gpt-oss: no).
        attention_factor: replaces 0.1 ln s + 1; its square multiplies the logits (above 0; 1 keeps them). For
            DeepSeek's `mscale` and `mscale_all_dim`, give 0.1 mscale ln s + 1 over 0.1 mscale_all_dim ln s + 1.

    Source: Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models" (2023), sections 3.2
    and 3.4.
    """
    if beta_slow >= beta_fast:
        raise ValueError(f"beta_fast must be greater than beta_slow, which is {beta_slow}, got {beta_fast}")
    scaled = by_parts(inverse_frequencies, base, training_length, factor, beta_fast, beta_slow, truncate)
    return scaled, 0.1 * math.log(factor) + 1.0 if attention_factor is None else attention_factor


def by_parts(
    inverse_frequencies: Tensor,
    base: float,
    training_length: int,
    factor: float,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
    truncate: bool = True,
) -> Tensor:
    """Return NTK by parts: over the index of a pair, a ramp from the frequencies to the frequencies divided by s."""
    rotary_dim = 2 * len(inverse_frequencies)

    def pair_that_rotates(times: float) -> float:
        return rotary_dim * math.log(training_length / (times * 2 * math.pi)) / (2 * math.log(base))

    first, last = pair_that_rotates(beta_fast), pair_that_rotates(beta_slow)
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    # rotary_dim - 1 and not rotary_dim / 2 - 1, as in the authors' code. Where L is so short that no pair rotates
    # beta_slow times, their ramp runs backwards and interpolates nothing; here it interpolates all pairs but the first.
    first = max(first, 0)
    last = max(min(last, rotary_dim - 1), first + 0.001)
    device, dtype = inverse_frequencies.device, inverse_frequencies.dtype
    # A learned frequency is on the ramp where the pair is that rotates as fast; exactly its own index if unlearned.
    faster = (inverse_frequencies / geometric_frequencies(rotary_dim, base, device, dtype)).log() / math.log(base)
    index = torch.arange(len(inverse_frequencies), device=device, dtype=torch.float32) - rotary_dim / 2 * faster
    ramp = ((index - first) / (last - first)).clamp(0, 1)
    return inverse_frequencies / factor * ramp + inverse_frequencies * (1 - ramp)
