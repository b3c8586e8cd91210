"""Biases of distance nearest to given logits, by regression, search or L-BFGS.

What is minimised is in `PositionalEncoding.fit`. Dimension letters: H heads, N distances.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from poslab.encodings.bias.distance_bias import DistanceBias

MAX_STEPS = 200  # steps of L-BFGS at most
PARTS, ROUNDS = 64, 4  # parts into which a search divides a range, and how often it does


def nearest_slopes(shape_HN: Tensor, logits_HN: Tensor, weight_N: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Return the slopes of the bias -slope_h * shape_h(d) that is nearest to logits, and its errors, both (H,).

        slope_h = -cov(shape_h, logits_h) / var(shape_h), and at least `least`

    The shape may have one head for all.
    """
    share_N = weight_N / weight_N.sum()
    x_HN, y_HN = (z - (share_N * z).sum(-1, keepdim=True) for z in (shape_HN.double(), logits_HN))
    spread_H = (share_N * x_HN.square()).sum(-1)
    best_H = -(share_N * x_HN * y_HN).sum(-1) / torch.where(spread_H > 0, spread_H, 1.0)
    slope_H = best_H.clamp_min(least)
    return slope_H, (share_N * (y_HN + slope_H.unsqueeze(-1) * x_HN).square()).sum(-1)


def least_error(error_at: Callable[[Tensor], Tensor], low: float, high: float, num_heads: int) -> Tensor:
    """Return for each head the value in a range with the least error, (H,) float64, by a search that narrows it."""
    low_H, high_H = (torch.full((num_heads,), end, dtype=torch.float64) for end in (low, high))
    for _ in range(ROUNDS):
        step_H = (high_H - low_H) / PARTS
        tried = torch.stack([low_H + step_H * part for part in range(PARTS + 1)])
        best_H = torch.stack([error_at(value_H) for value_H in tried]).argmin(0)
        found_H = tried.gather(0, best_H[None])[0]
        low_H, high_H = torch.maximum(low_H, found_H - step_H), torch.minimum(high_H, found_H + step_H)
    return found_H


def fit_by_lbfgs(encoding: DistanceBias, distance_N: Tensor, logits_HN: Tensor, weight_N: Tensor) -> None:
    """Move all parameters of a bias of distance to a minimum near their present values.

    The constant of each head follows from the parameters, and need not be searched: it is the weighted mean of the
    differences. Arguments as in `PositionalEncoding.fit`.
    """
    share_N = weight_N / weight_N.sum()
    search = torch.optim.LBFGS(
        encoding.parameters(),
        max_iter=MAX_STEPS,
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def error() -> Tensor:
        search.zero_grad()
        difference_HN = encoding.bias_at(distance_N).double() - logits_HN
        difference_HN = difference_HN - (share_N * difference_HN).sum(-1, keepdim=True)
        mean_square = (share_N * difference_HN.square()).sum()
        mean_square.backward()
        return mean_square

    with torch.enable_grad():
        search.step(error)
    search.zero_grad()
