"""Parameters of the parts of any model: encodings, token embeddings, norms, linear layers."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from torch import nn

from poslab.encodings import PositionalEncoding, Temperature


def parameters_of_encodings(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of positional encodings and temperatures."""
    positional = (m for m in model.modules() if isinstance(m, PositionalEncoding | Temperature))
    return unique(parameter for module in positional for parameter in module.parameters())


def parameters_of_embeddings(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of embeddings, such as those of tokens, without those of encodings."""
    embeddings = (m for m in model.modules() if isinstance(m, nn.Embedding))
    return _without(parameters_of_encodings(model), (p for m in embeddings for p in m.parameters()))


def parameters_of_norms(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of norms, without those of encodings.

    Libraries have norms of their own, so a norm is known by its structure: a module without children whose parameters
    are vectors, and one of them is its weight.
    """
    norms = (m for m in model.modules() if _is_norm(m))
    return _without(parameters_of_encodings(model), (p for m in norms for p in m.parameters()))


def linear_layers(module: nn.Module) -> list[nn.Module]:
    """Return the linear layers in a module, each once, without those of encodings."""
    encodings = (m for m in module.modules() if isinstance(m, PositionalEncoding | Temperature))
    apart = {id(part) for encoding in encodings for part in encoding.modules()}
    return [part for part in module.modules() if is_linear(part) and id(part) not in apart]


def is_linear(module: nn.Module) -> bool:
    """Return True for a linear layer, that of transformers (GPT-2), whose matrix is transposed, included."""
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
