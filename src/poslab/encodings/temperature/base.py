"""Contract of temperatures. Dimension letters: B batch, H heads, T queries."""

from __future__ import annotations

from torch import Tensor

from poslab.encodings.described import Described


class Temperature(Described):
    """Base class of factors that make logits larger the more keys a query sees; one instance for each layer.

        logit(i, j) = factor(n_i) * (what the encoding makes of q_i . k_j / sqrt(D))

    Additive biases of the encoding are not multiplied. Constructor arguments named as those of an encoding are filled
    in from the stack; one out of its range raises ValueError.
    """

    def forward(self, visible_BT: Tensor) -> Tensor:
        """Return the factor on the logits of each query, (1 or B, 1 or H, T, 1) float32.

        `visible_BT` is the number of keys n_i that each query sees, (1 or B, T) float32; at least 0.
        """
        raise NotImplementedError
