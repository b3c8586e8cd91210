"""Divergences of two distributions, and distances of two hidden states.

Dimension letters: B batch, T tokens, M model dim, N options of a distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Divergence = Literal["forward", "reverse", "jensen_shannon"]
Distance = Literal["cosine", "mse"]


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the log probabilities of logits, (..., N) float32, softened by a temperature.

    An option that is ruled out, whose logit is the smallest number, has the smallest log probability.
    """
    log_p = (logits.float() / temperature).log_softmax(-1)
    return log_p.clamp_min(torch.finfo(log_p.dtype).min)  # minus infinity less itself would be NaN


def kullback_leibler(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the sum over the N options of p (log p - log q), in nats, (...)."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def reverse_kullback_leibler(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the sum over the N options of q (log q - log p), in nats, (...)."""
    return kullback_leibler(log_q, log_p)


def jensen_shannon(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return half of KL(p, m) + KL(q, m) with m = (p + q) / 2, in nats, (...); at most log 2."""
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (kullback_leibler(log_p, log_m) + kullback_leibler(log_q, log_m)) / 2


def cosine_distance(theirs_BTM: Tensor, ours_BTM: Tensor) -> Tensor:
    """Return 1 less the cosine of two hidden states, 0 to 2, (B, T) float32."""
    return 1 - functional.cosine_similarity(theirs_BTM.float(), ours_BTM.float(), dim=-1)


def mean_squared_error(theirs_BTM: Tensor, ours_BTM: Tensor) -> Tensor:
    """Return the mean over the channels of the squared difference of two hidden states, (B, T) float32."""
    return (theirs_BTM.float() - ours_BTM.float()).square().mean(-1)


DIVERGENCES: Mapping[Divergence, Callable[[Tensor, Tensor], Tensor]] = {
    "forward": kullback_leibler,
    "reverse": reverse_kullback_leibler,
    "jensen_shannon": jensen_shannon,
}
"""Divergences by name, each of the log probabilities of the teacher p and of the student q."""

DISTANCES: Mapping[Distance, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": cosine_distance,
    "mse": mean_squared_error,
}
"""Distances by name, each of the hidden states of the teacher and of the student."""
