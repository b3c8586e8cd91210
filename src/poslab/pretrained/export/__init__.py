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
    """A model as transformers loads it; ValueError for weights that are NaN.

    Args:
        model_class: its class.
        config: its configuration.
        weights: its weights by the names of transformers, tied ones under both names.
        max_length: tokens of the longest text that it is for, which its tokenizer names.
        notes: differences in use that its logits do not show, one sentence each.
        needs_poslab: True if the class is one of `exchanged_classes`.
        generation: its generation configuration; None is a Poslab model's.
        rope_type: name of its rotation in transformers; None if it has none, or not as an encoding that was replaced.
    """

    model_class: Any
    config: PretrainedConfig
    weights: dict[str, Tensor]
    max_length: int
    notes: tuple[str, ...] = ()
    needs_poslab: bool = False
    generation: Any = None
    rope_type: str | None = None

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if weight.is_floating_point() and bool(weight.isnan().any()):
                raise ValueError(f"model must have weights that are numbers to be exported, and {name} has NaN")
