"""Factors on logits by the number of visible keys. Dimension letters: B batch, H heads, T queries."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from poslab.arguments import NOT_EXTREME, NOT_HUGE, Count, Positive, Range
from poslab.encodings.shape import Described


class Temperature(Described):
    """Base class of factors that make logits larger the more keys a query sees; one instance for each layer.

        logit(i, j) = factor(n_i) * (what the encoding makes of q_i . k_j / sqrt(D))

    Additive biases of the encoding are not multiplied. Constructor arguments with names of an encoding's arguments
    are filled in from the stack; one out of its range raises ValueError.
    """

    def forward(self, visible_BT: Tensor) -> Tensor:
        """Return the factor on the logits of each query, (1 or B, 1 or H, T, 1) float32.

        `visible_BT` is the number of keys n_i that each query sees, (1 or B, T) float32; at least 0.
        """
        raise NotImplementedError


class HeadScale(Temperature):
    """Logits of each head times a learned number, whatever the number of visible keys.

        logit(i, j) = s_h * (what the encoding makes of q_i . k_j / sqrt(D))

    Args:
        num_heads: heads H.
        initial_scale: initial s_h, above 0 (1: the logits of the model; its authors: 1.6, to reach 8,192 tokens).

    Parameters: `scales` (H,), for each layer. Causal and bidirectional. Costs one product for each query and head.
    Claimed to let a model without position handle several times its training length, if only these numbers are tuned
    on longer texts and all other weights stay (`adapt=encoding`). Its authors' code keeps each number at 1 or above;
    here it is free.

    Source: Wang et al., "Length Generalization of Causal Transformers without Position Encoding" (Findings of
    ACL 2024), section 4.
    """

    def __init__(self, num_heads: Count, initial_scale: Positive = 1.0) -> None:
        super().__init__()
        self.scales = nn.Parameter(torch.full((num_heads,), initial_scale))

    def forward(self, visible_BT: Tensor) -> Tensor:
        return self.scales.float().view(1, -1, 1, 1).expand(-1, -1, visible_BT.shape[1], -1)


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

    No parameters. Causal and bidirectional. Costs one number per query. Llama 4 has it only in its layers without
    position (`temperature` of `LayerSpec`), Ministral 3 in all. Claimed to keep attention sharp far beyond the training
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


class SSMax(Temperature):
    """Scalable softmax: each head learns how much its logits grow with the logarithm of the number of visible keys.

        logit(i, j) = s_h * ln(n_i) * (what the encoding makes of q_i . k_j / sqrt(D))

    which is the softmax with n_i ** s_h instead of e; with a bias, the factor is s_h ln(n_i) + b_h. n_i counts visible
    keys; the package `scalable-softmax` uses the length of the row, which under a causal mask scales all rows alike.

    Args:
        num_heads: heads H.
        initial_scale: initial s_h, at least 0 (0.43 in the paper's figure 1 and the package: usual logits at ten keys;
            Mistral Large 4: 0, with a bias).
        bias: True learns b_h too, which is 1 at first (paper's general form, and Mistral Large 4), False has b_h = 0.

    Parameters: `scales` (H,), and perhaps `biases` (H,), for each layer. Causal and bidirectional. Costs one number per
    query and head. Claimed to keep attention on what matters as texts grow past the training length. Mistral Large 4
    counts positions, which is the same in a plain causal text.

    Source: Nakanishi, "Scalable-Softmax Is Superior for Attention" (2025), section 3.
    """

    def __init__(
        self,
        num_heads: Count,
        initial_scale: Annotated[float, Range(at_least=0), NOT_EXTREME] = 0.43,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.scales = nn.Parameter(torch.full((num_heads,), initial_scale))
        self.biases = nn.Parameter(torch.ones(num_heads)) if bias else None

    def forward(self, visible_BT: Tensor) -> Tensor:
        factor_BHT1 = self.scales.float().view(-1, 1, 1) * visible_BT.clamp_min(1).log()[:, None, :, None]
        return factor_BHT1 if self.biases is None else factor_BHT1 + self.biases.float().view(-1, 1, 1)
