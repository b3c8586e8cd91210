from __future__ import annotations

import torch
from torch import Tensor, nn

from poslab.arguments import Count, Positive
from poslab.encodings.bias.alibi import Alibi, Offset, slope_exponents


class LearnedAlibi(Alibi):
    """ALiBi whose slopes are learned, from where the fixed ones are.

        logit(i, j) = q_i . k_j / sqrt(D) - slope_h * |i - j|,  slope_h = 2 ** -exponent_h

    The exponents are what is learned, so slopes are positive whatever happens to them, and a step changes a steep slope
    and a gentle one by the same factor.

    Args:
        num_heads: heads H.
        max_exponent: the smallest slope starts at 2 ** -max_exponent (paper: 8; above 0).
        asymmetry: as in `Alibi`: in an encoder, keys ahead (positive) or behind (negative) count as nearer by this many
            tokens (between -1 and 1).
        causal: whether keys are never ahead of the query.

    Parameters: `exponents` (H,), one for all layers of a stack. Causal or both ways. The paper reports no strong
    extrapolation of learned slopes, and 3% more time. Time and memory are those of `Alibi`, and the gradient of one row
    per head.

    Traps: learning the slope itself lets it become negative; learning its natural logarithm, as others do, is the same
    at another learning rate.

    Raises:
        ValueError: for an argument out of its range.

    Source: Press, Smith, Lewis, "Train Short, Test Long" (ICLR 2022), who mention trainable slopes in section 3.
    """

    def __init__(
        self, num_heads: Count, max_exponent: Positive = 8.0, asymmetry: Offset = 0.0, causal: bool = True
    ) -> None:
        super().__init__(num_heads, max_exponent, asymmetry, causal)
        self.exponents = nn.Parameter(torch.tensor(slope_exponents(num_heads, max_exponent)))

    def learned(self) -> dict[str, Tensor]:
        return {"slope": self.slopes(self.exponents.device)}

    def slopes(self, device: torch.device) -> Tensor:
        return 2.0 ** -self.exponents.to(torch.float32)
