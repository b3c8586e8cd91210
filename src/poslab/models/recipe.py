"""Recipe of a model whose data is not yet known."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from poslab.encodings import EncodingFactory, LayerPattern, PositionSampler, PretrainedPositions
from poslab.models.blocks import StackConfig
from poslab.models.model import Capability, Model, Outputs


@dataclass(frozen=True)
class ModelRecipe:
    """A model that can be built as soon as its vocabulary is known.

    Args:
        make: builds it from `vocab_size`, and from `outputs`, `digits` and `patch_width` if it has such arguments.
        encoding: its positional encoding.
        positions: sampler of positions for its tokens; None for none.
    """

    make: partial[Model]
    encoding: EncodingFactory
    positions: PositionSampler | None = None

    @property
    def kind(self) -> type[Model]:
        """Class of the model."""
        kind = self.make.func
        assert isinstance(kind, type)
        return kind

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Capabilities of the model.

        Raises:
            ValueError: as `Model.capabilities_with` does.
        """
        return self.kind.capabilities_with(**self.make.keywords)

    @property
    def pattern(self) -> LayerPattern:
        """Kinds of layers with their encodings."""
        stack, layers = self.make.keywords.get("stack"), self.make.keywords.get("layers")
        if isinstance(stack, StackConfig):
            return stack.pattern
        return LayerPattern.of(self.encoding) if layers is None else layers.under(self.encoding)

    @property
    def tokenizer(self) -> Path | None:
        """File of the tokenizer that the model was trained with; None for a new model."""
        return self.kind.tokenizer_with(**self.make.keywords)

    def untouched(self) -> ModelRecipe | None:
        """Return the recipe of the pretrained model with its own positions; None for a new model."""
        if self.tokenizer is None:
            return None
        exchanged = ("encoding", "positions", "temperature", "layers")
        kept = {name: value for name, value in self.make.keywords.items() if name not in exchanged}
        return ModelRecipe(partial(self.make.func, encoding=PretrainedPositions, **kept), PretrainedPositions)

    @cached_property
    def on_meta(self) -> Model:
        """The model without memory for its weights, with a placeholder vocabulary; raises as `build` does."""
        with torch.device("meta"):
            return self._made(vocab_size=2, digits=[0])

    def build(
        self,
        vocab_size: int | None,
        outputs: Outputs | None = None,
        digits: Sequence[int] = (),
        patch_width: int | None = None,
    ) -> Model:
        """Build the model, with weights drawn from torch's generator.

        Args:
            vocab_size: tokens of its data and its task; None for those that a pretrained model has.
            outputs: output layer of its task; None for token logits.
            digits: ids of the tokens that are one digit each.
            patch_width: number of values of a patch; None for data without patches.

        Raises:
            ValueError: for arguments that do not fit together, or an encoding that names tokens beyond the vocabulary;
                the message begins with the name of an argument.
        """
        model = self._made(vocab_size=vocab_size, outputs=outputs, digits=digits, patch_width=patch_width)
        if vocab_size is not None:
            for encoding in (encoding for stack in model.stacks.values() for encoding in stack):
                encoding.require_vocabulary(vocab_size)
        return model

    def _made(self, **known: Any) -> Model:
        parameters = inspect.signature(self.kind).parameters
        return self.make(**{name: value for name, value in known.items() if name in parameters})
