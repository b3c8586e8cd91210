"""ALiBi with learned slopes. Dimension letters: H heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poslab.arguments import Count, Positive
from poslab.encodings.bias.alibi import Alibi, Asymmetry, slope_exponents
from poslab.encodings.bias.nearest import nearest_slopes
from poslab.encodings.offsets import Metric


class LearnedAlibi(Alibi):
    """ALiBi whose slopes are learned, starting from the fixed ones.

        logit(i, j) = q_i . k_j / sqrt(D) - slope_h * |i - j|,  slope_h = 2 ** -exponent_h

    Learning the exponents keeps slopes positive, and a step changes a steep slope and a gentle one by the same factor.

    Use it when ALiBi fits, but its slopes are a guess for your data: one parameter for each head adapts them.

    Args:
        num_heads: heads H.
        max_exponent: the smallest slope starts at 2 ** -max_exponent (paper: 8; above 0).
        asymmetry, causal, metric: as in `Alibi`.

    Parameters: `exponents` (H,), one for all layers of a stack. Causal and bidirectional. The paper reports no strong
    extrapolation of learned slopes, and 3% more time. Costs what `Alibi` does, and the gradient of one row per head.

    Traps: a learned slope may turn negative; its learned natural logarithm, as elsewhere, means another learning rate.

    Source: Press, Smith, Lewis, "Train Short, Test Long" (ICLR 2022), who mention trainable slopes in section 3.
    """

    def __init__(
        self,
        num_heads: Count,
        max_exponent: Positive = 8.0,
        asymmetry: Asymmetry = 0.0,
        causal: bool = True,
        metric: Metric | None = None,
    ) -> None:
        super().__init__(num_heads, max_exponent, asymmetry, causal, metric)
        self.exponents = nn.Parameter(torch.tensor(slope_exponents(num_heads, max_exponent)))

    def learned(self) -> dict[str, Tensor]:
        return {"slope": self.slopes(self.exponents.device)}

    def fit(self, distance_N: Tensor, logits_HN: Tensor, weight_N: Tensor) -> None:
        """Set the slopes by linear regression on the distance; see `PositionalEncoding.fit`.

            slope_h = -cov(|d|, logits_h(d)) / var(|d|)

        A slope is at least 2 ** -max_exponent, since it must be positive: so begins a head whose logits do not fall.
        """
        shape_N = -(self.bias_at(distance_N) / self.slopes(distance_N.device).unsqueeze(-1))[0]
        slopes_H, _ = nearest_slopes(shape_N, logits_HN, weight_N, 2.0**-self.max_exponent)
        with torch.no_grad():
            self.exponents.copy_(-slopes_H.log2())

    def slopes(self, device: torch.device) -> Tensor:
        return 2.0 ** -self.exponents.to(torch.float32)
