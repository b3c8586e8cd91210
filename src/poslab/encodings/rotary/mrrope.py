"""MrRoPE: divisors of rotary frequencies that grow from pair to pair."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from poslab.arguments import Factor, Positive
from poslab.encodings.rotary.scalings import TrainingLength


def mrrope(
    inverse_frequencies: Tensor,
    training_length: TrainingLength,
    factor: Factor = 4.0,
    progressive: bool = True,
    attention_factor: Positive | None = None,
) -> tuple[Tensor, float]:
    """Divide slow frequencies by s and those in between by powers of s, as radices of a number (MrRoPE).

        theta'(m) = theta(m) / s ** e(t),    t = clip(m - lo, 0, n),  n = hi - lo
        e(t) = t (t + 1) / (n (n + 1)) if progressive (MrRoPE-Pro), else t / n (MrRoPE-Uni)
        logit = (0.1 ln s + 1)^2 q' . k' / sqrt(D)

    `lo` is the last pair of more than 32 turns within L (0 if there is none), and `hi` the first of less than one.
    Between them YaRN mixes two frequencies; here each pair is slowed by a factor more than the one before it, by equal
    factors or by growing ones.

    Use it when a trained rotary model should handle several times its length, with or without a short fine-tuning, as
    `yarn` is used.

    Args:
        training_length: L, at least 2.
        factor: s (at least 1).
        progressive: True for Pro, False for Uni.
        attention_factor: replaces 0.1 ln s + 1; its square multiplies the logits (above 0; 1 leaves them unchanged).

    Source: MrRoPE, mixed-radix rotary position embedding (arXiv 2601.22181, ICLR 2026), equations 13 to 16 and 26, as
    the code of others has them; its own is not known.
    """
    turns = inverse_frequencies * (training_length / (2 * math.pi))
    low = ((turns > 32).sum() - 1).clamp_min(0)
    steps = ((turns >= 1).sum() - low).clamp_min(1)
    index = torch.arange(len(inverse_frequencies), device=inverse_frequencies.device)
    step = (index - low).clamp_min(0).minimum(steps).to(inverse_frequencies.dtype)
    exponent = step * (step + 1) / (steps * (steps + 1)) if progressive else step / steps
    if attention_factor is None:
        attention_factor = 0.1 * math.log(factor) + 1.0
    return inverse_frequencies / factor**exponent, attention_factor
