"""Logits that grow as ln n. Dimension letters: B batch, T queries."""

from __future__ import annotations

import math
from typing import Annotated

from torch import Tensor

from poslab.arguments import NOT_HUGE, Range
from poslab.encodings.temperature.base import Temperature


class LogN(Temperature):
    """Logits that grow with the logarithm of the number of visible keys, to keep attention as sharp as in training.

        logit(i, j) = ln(n_i) / ln(L) * (what the encoding makes of q_i . k_j / sqrt(D))

    With n_i visible keys the entropy of attention over unscaled logits grows as ln(n_i); a query that sees L keys keeps
    its logits. At n_i = 1 the factor is 0, which changes nothing: a softmax over one key is 1.

    Args:
        training_length: number L of keys at which the factor is 1, at least 2 (its author: 512).

    No parameters. Causal and bidirectional. Costs one number per query. Claimed to carry a model past its training
    length without further training. Qwen's code scales only queries past L and leaves all others at 1; in the author's
    form, used here, training meets the factor already. Llama 4 multiplies queries without position by
    1 + 0.1 ln(1 + floor((position + 1) / 8,192)).

    Source: Su, a post on attention whose entropy does not depend on the length (2021); Chiang, Cholak, "Overcoming a
    Theoretical Limitation of Self-Attention" (ACL 2022).
    """

    def __init__(self, training_length: Annotated[int, Range(at_least=2), NOT_HUGE]) -> None:
        super().__init__()
        self.training_length = training_length

    def forward(self, visible_BT: Tensor) -> Tensor:
        return visible_BT.clamp_min(1).log()[:, None, :, None] / math.log(self.training_length)
