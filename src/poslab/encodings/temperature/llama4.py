"""Temperature of Llama 4 and Ministral 3. Dimension letters: B batch, T queries."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from poslab.arguments import NOT_HUGE, Positive, Range
from poslab.encodings.temperature.base import Temperature


class Llama4Temperature(Temperature):
    """Logits that grow by a step each time the number of visible keys reaches another multiple of a length.

        logit(i, j) = (1 + a ln(1 + floor(n_i / F))) * (what the encoding makes of q_i . k_j / sqrt(D))

    Queries that see fewer than F keys keep their logits, so that a trained model changes nothing in texts shorter than
    F. n_i counts visible keys, the query's own included: in a plain causal text it is the position + 1.

    Args:
        training_length: F, at least 1 (Llama 4: 8,192; Ministral 3: 16,384, its original length).
        rate: a, above 0 (both: 0.1).
        own_key: True counts the key of the query itself (Llama 4); False does not (Ministral 3), so that each step
            comes one token later.

    No parameters. Causal and bidirectional. Costs one number per query. Llama 4 has it in its layers without position
    alone (`temperature` of `LayerSpec`), Ministral 3 in all. Claimed to keep attention sharp far beyond the training
    length.

    Source: the code of Llama 4 (2025) and of Ministral 3 (2025).
    """

    def __init__(
        self, training_length: Annotated[int, Range(at_least=1), NOT_HUGE], rate: Positive = 0.1, own_key: bool = True
    ) -> None:
        super().__init__()
        self.training_length = training_length
        self.rate = rate
        self.own_key = own_key

    def forward(self, visible_BT: Tensor) -> Tensor:
        counted_BT = visible_BT if self.own_key else (visible_BT - 1).clamp_min(0)
        return 1 + self.rate * (counted_BT / self.training_length).floor().log1p()[:, None, :, None]
