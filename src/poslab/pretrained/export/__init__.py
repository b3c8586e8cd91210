"""Models written as a class of transformers: its configuration, its weights and its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class NotPlainError(ValueError):
    """A model that no class of transformers can be by itself, although one with Poslab can."""


@dataclass(frozen=True)
class Form:
    """A model as transformers loads it; ValueError for weights that are NaN."""

    model_class: Any  # its class
    config: PretrainedConfig  # its configuration
    weights: dict[str, Tensor]  # its weights by the names of transformers, tied ones under both names
    max_length: int  # tokens of the longest text that it is for, which its tokenizer names
    notes: tuple[str, ...] = ()  # differences in use that its logits do not show, one sentence each
    needs_poslab: bool = False  # True if the class is one of `exchanged_classes`
    generation: Any = None  # its generation configuration; None is a Poslab model's
    # name of its rotation in transformers; None if it has none, or not as an encoding that was replaced
    rope_type: str | None = None

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if weight.is_floating_point() and bool(weight.isnan().any()):
                raise ValueError(f"model must have weights that are numbers to be exported, and {name} has NaN")
