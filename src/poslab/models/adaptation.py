"""The weights of a model that learn: all of them, low-rank updates (LoRA), its encodings, or its norms.

Dimension letters: O rows and I columns of a matrix, R rank.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from poslab.arguments import CheckedArguments, Count, Positive
from poslab.encodings import PositionalEncoding, Temperature
from poslab.models import Model


class Adaptation(CheckedArguments):
    """Base class of choices of the weights that learn.

    The other weights keep their values: they get no gradient, and no optimizer has a state for them. The output layer
    of a task (`Model.task_output`) learns under every choice, because it belongs to no model that was trained before.
    """

    def learning(self, model: Model) -> Sequence[nn.Parameter]:
        """Return the parameters that learn, and add those that the model lacks; ValueError if the model has none."""
        raise NotImplementedError

    def apply(self, model: Model) -> None:
        """Freeze the weights of a model that do not learn, after the weights that it starts from have been loaded.

        ValueError if the model has nothing to learn under this choice.
        """
        output = () if model.task_output is None else model.task_output.parameters()
        learning = {id(parameter) for parameter in (*self.learning(model), *output)}
        for parameter in model.parameters():
            if id(parameter) not in learning:
                parameter.requires_grad_(False)


def num_learning(model: nn.Module) -> int:
    """Return the number of parameters of a model that learn."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def parameters_of_encodings(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of positional encodings and temperatures."""
    positional = (m for m in model.modules() if isinstance(m, PositionalEncoding | Temperature))
    return unique(parameter for module in positional for parameter in module.parameters())


def parameters_of_embeddings(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of embeddings, such as token embeddings, without the parameters of encodings."""
    embeddings = (m for m in model.modules() if isinstance(m, nn.Embedding))
    return _without(parameters_of_encodings(model), (p for m in embeddings for p in m.parameters()))


def parameters_of_norms(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of norms, without the parameters of encodings.

    Libraries have their own norms, so a norm is known by its structure: a module without children whose parameters
    are vectors, and one of them is its weight.
    """
    norms = (m for m in model.modules() if _is_norm(m))
    return _without(parameters_of_encodings(model), (p for m in norms for p in m.parameters()))


def linear_layers(module: nn.Module) -> list[nn.Module]:
    """Return the linear layers in a module, each once, without the layers of encodings."""
    encodings = (m for m in module.modules() if isinstance(m, PositionalEncoding | Temperature))
    apart = {id(part) for encoding in encodings for part in encoding.modules()}
    return [part for part in module.modules() if is_linear(part) and id(part) not in apart]


def is_linear(module: nn.Module) -> bool:
    """Return True for a linear layer, also for the layer of transformers (GPT-2) whose matrix is transposed."""
    return isinstance(module, nn.Linear) or is_transposed(module)


def is_transposed(module: nn.Module) -> bool:
    """Return True for a linear layer whose matrix has a row for each input."""
    library = sys.modules.get("transformers.pytorch_utils")  # not imported as long as nobody can have such a layer
    return library is not None and isinstance(module, library.Conv1D)


def unique(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Return parameters in order, each once, however many modules share it."""
    return list({id(parameter): parameter for parameter in parameters}.values())


def _is_norm(module: nn.Module) -> bool:
    parameters = dict(module.named_parameters())
    is_leaf = not any(True for _ in module.children())
    return is_leaf and "weight" in parameters and all(parameter.ndim == 1 for parameter in parameters.values())


def _without(apart: Iterable[nn.Parameter], parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    excluded = {id(parameter) for parameter in apart}
    return [parameter for parameter in unique(parameters) if id(parameter) not in excluded]


class Full(Adaptation):
    """All weights of the model learn, the default."""

    def learning(self, model: Model) -> Sequence[nn.Parameter]:
        return list(model.parameters())


class NormsOnly(Adaptation):
    """Only norms learn, at most a few vectors of each layer.

    Source: Frankle, Schwab, Morcos, "Training BatchNorm and Only BatchNorm" (ICLR 2021), who train them in networks of
    random weights.
    """

    def learning(self, model: Model) -> Sequence[nn.Parameter]:
        parameters = parameters_of_norms(model)
        if not parameters:
            raise ValueError(f"adapt=norms trains only norms, and {type(model).__name__} has no norm with parameters")
        return parameters


class EncodingOnly(Adaptation):
    """Only positional encodings and temperatures learn: tables, slopes, frequencies.

    Attention sinks are an option of attention, which an encoding neither has nor reads, and stay as the run begins.
    """

    def learning(self, model: Model) -> Sequence[nn.Parameter]:
        parameters = parameters_of_encodings(model)
        if not parameters:
            names = sorted({type(encoding).__name__ for stack in model.stacks.values() for encoding in stack})
            raise ValueError(f"adapt=encoding needs an encoding that has parameters, got {' and '.join(names)}")
        return parameters


class FreezeEncoding(Adaptation):
    """All weights learn, attention sinks too, except in positional encodings and temperatures."""

    def learning(self, model: Model) -> Sequence[nn.Parameter]:
        frozen = {id(parameter) for parameter in parameters_of_encodings(model)}
        return [parameter for parameter in model.parameters() if id(parameter) not in frozen]


FACTORS = ("left", "right", "scale")  # names of the state of an update


class LowRank(Adaptation):
    """Updates of low rank learn instead of the matrices of attention (LoRA).

        W' = W + (alpha / rank) B A,    B is (out, rank) and 0 at first, A is (rank, in) and U(-1, 1) / sqrt(in)

    The model therefore begins as it was. Each linear layer of `Model.attention_layers` has an update. Encodings and
    temperatures learn too, because a new encoding starts with values that no training has seen.

    Args:
        rank: rank of the updates (LongLoRA: 8).
        alpha: their scale, over the rank (LongLoRA: 16).
        embeddings: True trains the embeddings of tokens, and so the output layer that shares their matrix.
        norms: True trains the norms.

    Elsewhere than in its own checkpoints a trained model is an ordinary one: `merged` adds the updates to the matrices.

    Trap: a matrix and its update are added in their own precision. Under `trainer.precision=bf16-true` an update
    that is smaller than the rounding of its matrix has no effect; `bf16-mixed` keeps it.

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
            raise ValueError(f"adapt=lora does not support {type(model).__name__}, whose attention is parametrized")
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
    """Return the weights of a model with updates of low rank as weights of the model without, each matrix updated.

    The weights of any other model are unchanged. ValueError for an update that does not fit its matrix.
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
