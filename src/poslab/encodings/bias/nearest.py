"""Biases of distance nearest to given logits, by L-BFGS. Dimension letters: H heads, N distances."""

from __future__ import annotations

import torch
from torch import Tensor

from poslab.encodings.bias.distance_bias import DistanceBias

MOST_STEPS = 500
"""Steps of L-BFGS at most."""


def fit_by_lbfgs(encoding: DistanceBias, distance_N: Tensor, logits_HN: Tensor, weight_N: Tensor) -> None:
    """Move all parameters of a bias of distance to a minimum near their present values.

    The constant of each head follows from the parameters, and need not be searched: it is the weighted mean of the
    differences. Arguments and what is minimised as in `PositionalEncoding.fit`.
    """
    share_N = weight_N / weight_N.sum()
    search = torch.optim.LBFGS(
        encoding.parameters(),
        max_iter=MOST_STEPS,
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def error() -> Tensor:
        search.zero_grad()
        difference_HN = encoding.bias_at(distance_N).double() - logits_HN
        difference_HN = difference_HN - (share_N * difference_HN).sum(-1, keepdim=True)
        mean_square = (share_N * difference_HN.square()).sum()
        mean_square.backward()  # type: ignore[no-untyped-call]
        return mean_square

    with torch.enable_grad():
        search.step(error)  # type: ignore[no-untyped-call]
    search.zero_grad()
