"""LoRA: updates of low rank to the matrices of attention.

Dimension letters: O rows and I columns of a matrix, R rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from poslab.adaptation.base import Adaptation
from poslab.adaptation.parts import (
    is_transposed,
    linear_layers,
    parameters_of_embeddings,
    parameters_of_encodings,
    parameters_of_norms,
)
from poslab.arguments import Count, Positive
from poslab.models import Model

FACTORS = ("left", "right", "scale")
"""Names of the state of an update."""


class LowRank(Adaptation):
    """Updates of low rank learn in place of the matrices of attention (LoRA).

        W' = W + (alpha / rank) B A,    B is (out, rank) and 0 at first, A is (rank, in) and U(-1, 1) / sqrt(in)

    The model therefore begins as it was. Each linear layer of `Model.attention_layers` has an update. Encodings and
    temperatures learn too, because a new encoding begins with values that no training has seen.

    Args:
        rank: rank of the updates (LongLoRA: 8).
        alpha: their scale, over the rank (LongLoRA: 16).
        embeddings: True trains the embeddings of tokens, and so the output layer that shares their matrix.
        norms: True trains the norms.

    Elsewhere than in its own checkpoints a trained model is an ordinary one: `merged` adds the updates to the matrices.

    Trap: a matrix and its update are added in their own precision. Under `trainer.precision=bf16-true` an update
    that is smaller than the rounding of its matrix has no effect; `bf16-mixed` keeps it.

    Raises:
        ValueError: for an argument out of its range.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022), section 4.1, with the first
    values of the authors' code; Chen et al., "LongLoRA" (ICLR 2024), section 3.3, for embeddings and norms, without
    which it does not learn longer texts.
    """

    def __init__(self, rank: Count = 8, alpha: Positive = 16.0, embeddings: bool = True, norms: bool = True) -> None:
        self.rank = rank
        self.alpha = alpha
        self.embeddings = embeddings
        self.norms = norms

    def learning(self, model: Model) -> Sequence[nn.Parameter]:
        layers = {id(layer): layer for attention in model.attention_layers for layer in linear_layers(attention)}
        if not layers:
            raise ValueError(
                f"adapt=lora updates the linear layers of attention, and {type(model).__name__} names none as its "
                "attention_layers"
            )
        if any(parametrize.is_parametrized(layer) for layer in layers.values()):
            raise ValueError(f"adapt=lora does not serve {type(model).__name__}, whose attention is parametrized")
        updates = [LowRankUpdate(layer, self.rank, self.alpha) for layer in layers.values()]
        for layer, update in zip(layers.values(), updates, strict=True):
            # Unsafe leaves out a trial on the meta device, where models are checked, and which has no autocast.
            parametrize.register_parametrization(layer, "weight", update, unsafe=True)
        return [
            *(parameter for update in updates for parameter in update.parameters()),
            *parameters_of_encodings(model),
            *(parameters_of_embeddings(model) if self.embeddings else ()),
            *(parameters_of_norms(model) if self.norms else ()),
        ]


class LowRankUpdate(nn.Module):
    """An update of low rank to the matrix of a linear layer, 0 at first; the factor on its inputs is random."""

    scale: Tensor

    def __init__(self, layer: nn.Module, rank: int, alpha: float) -> None:
        super().__init__()
        weight_OI = layer.get_parameter("weight").detach()
        rows, columns = weight_OI.shape
        self.left = nn.Parameter(weight_OI.new_zeros(rows, rank))
        self.right = nn.Parameter(weight_OI.new_zeros(rank, columns))
        self.register_buffer("scale", weight_OI.new_tensor(alpha / rank))
        factor, inputs = (self.left, rows) if is_transposed(layer) else (self.right, columns)
        nn.init.uniform_(factor, -(inputs**-0.5), inputs**-0.5)

    def forward(self, weight_OI: Tensor) -> Tensor:
        """Return the updated matrix."""
        return updated(weight_OI, self.left, self.right, self.scale)


def updated(weight_OI: Tensor, left_OR: Tensor, right_RI: Tensor, scale: Tensor) -> Tensor:
    """Return a matrix with its update, in its own precision under autocast too, so that merging changes nothing."""
    with torch.autocast(weight_OI.device.type, enabled=False):
        return weight_OI + scale * (left_OR @ right_RI)


def merged(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a model with updates of low rank as those of the model without, each matrix updated.

    The weights of any other model stay as they are.

    Raises:
        ValueError: for an update that does not fit its matrix.
    """
    whole: dict[str, Tensor] = {}
    for name, weight in weights.items():
        layer, parametrized, of_it = name.partition(".parametrizations.weight.")
        prefix = layer + parametrized
        factors = [weights.get(f"{prefix}0.{factor}") for factor in FACTORS]
        if not parametrized or f"{prefix}original" not in weights or any(factor is None for factor in factors):
            whole[name] = weight
        elif of_it == "original":
            left, right, scale = (factor for factor in factors if factor is not None)
            shapes = (left.shape[:1] + right.shape[-1:], left.shape[1:], scale.shape)
            if shapes != (weight.shape, right.shape[:1], torch.Size()) or weight.ndim != 2:
                raise ValueError(f"the update of low rank of {layer}.weight does not fit it")
            whole[f"{layer}.weight"] = updated(weight, left, right, scale)
    return whole
