"""Interface of a model, Poslab's or a user's.

Dimension letters: B batch, S source tokens, T tokens, R selected rows, P numbers of a patch, M model dim, V vocabulary,
N positions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from poslab.attention import KeyValueCache, MultiHeadAttention
from poslab.encodings import (
    EncodingFactory,
    LayerPattern,
    Positions,
    PositionSampler,
    PretrainedPositions,
    StackEncodings,
)
from poslab.models.blocks import StackConfig

Capability = Literal["causal", "bidirectional", "source", "cache", "pooled", "patches", "context_parallel"]
"""A capability of a model; a task names those that it needs.

- causal: a token sees only itself and those before it, and `forward(tokens, positions, real, cache)` returns logits of
  the next;
- bidirectional: each token sees all of its sequence, under the same `forward`;
- source: `forward(source, target, real_source)` returns logits of a target, given a source;
- cache: a text can be read piece by piece, from `new_cache()` or, with a source, from `begin(source, real)`;
- pooled: its `Outputs` can be for a whole sequence;
- patches: its tokens can be patches, given to `forward` with their ids; it is made with their `patch_width`;
- context_parallel: several processes can share a window: with the layers of its cache replaced by `GatheredLayer`,
  the logits of a part are the logits of that part of the window. Its `dropout` follows the embeddings.
"""


Pooling = Literal["mean", "first", "last"]
"""Hidden state that represents a sequence: the mean over its tokens, or the state of its first or last token."""


class Outputs(NamedTuple):
    """Output layer instead of token logits: `size` numbers, for each sequence if `pooled`, else for each token."""

    size: int
    pooled: bool


class Decoding(Protocol):
    """Texts that are generated token by token, one per row, each continuing the tokens so far."""

    def next_logits(self, tokens_BT: Tensor) -> Tensor:
        """Return logits of the token that follows these new ones, (B, V)."""

    def select(self, rows_R: Tensor) -> None:
        """Keep these rows, each any number of times."""


class Model(nn.Module):
    """Base class of models that can be trained, evaluated and sampled.

    Your own model is a subclass in a package that you trust (`trust=my_package`). Its constructor may name any of
    `encoding`, `positions`, `temperature` and `attention` of the configuration, of `vocab_size`, `digits`, `outputs`
    (`Outputs` or None) and `patch_width` of the data and the task, and of the keys of its YAML file; with a
    `stack: StackConfig` it gets all of that configuration. It declares `capabilities`, has its encodings as
    `encodings`, and implements `hidden_states` and `logits`, or its own `forward`. docs/your-own-model.md has an
    example.
    """

    capabilities: ClassVar[frozenset[Capability]]
    """Capabilities of this model."""

    embedding: nn.Embedding
    """Token embeddings."""

    encodings: StackEncodings
    """Encodings of the self-attention; with a source, of the source's self-attention."""

    num_registers: int = 0
    """Number of learned vectors before its tokens, which are positions too."""

    pooling: Pooling | None = None
    """Hidden state of which a task's `Outputs` for a whole sequence are made; None where they are for each token."""

    @classmethod
    def capabilities_with(cls, **arguments: Any) -> frozenset[Capability]:
        """Return the capabilities of the model that these arguments make.

        Raises:
            ValueError: starting with `model`, if it does not declare any.
        """
        if not hasattr(cls, "capabilities"):
            raise ValueError(f"model must declare its capabilities, and {cls.__name__} does not")
        return cls.capabilities

    @classmethod
    def tokenizer_with(cls, **arguments: Any) -> Path | None:
        """Return the file of the tokenizer that the model of these arguments was trained with; None for a new model."""
        return None

    @property
    def has_trained_logits(self) -> bool:
        """True if its `logits` were trained with it, False for a pretrained model without an output layer."""
        return True

    @property
    def stacks(self) -> dict[str, StackEncodings]:
        """Encodings by name: `self`, and perhaps `cross` and `encoder`."""
        return {"self": self.encodings}

    @property
    def attention_sites(self) -> Sequence[nn.Module]:
        """Blocks for FSDP to shard; may be none."""
        return ()

    @property
    def attention_layers(self) -> Sequence[nn.Module]:
        """Attention layers, whose linear layers `adapt=lora` updates; by default every `MultiHeadAttention`."""
        return [module for module in self.modules() if isinstance(module, MultiHeadAttention)]

    @property
    def windows(self) -> Sequence[int | None]:
        """For each layer, the number of last tokens that a token sees; None for all."""
        return self.encodings.windows

    @property
    def is_recurrent(self) -> bool:
        """True if layers carry more than keys and values from token to token (`LayerCache.recurrent`)."""
        return False

    @property
    def task_output(self) -> nn.Module | None:
        """Output layer of a task's `Outputs`, which learns under every choice of `adapt`; None for token logits."""
        return None

    @property
    def position_rows(self) -> Tensor | None:
        """Learned vectors of the positions 0, 1, ..., (N, M), that are added to embeddings; None without any."""
        return next((encoding.rows for encoding in self.encodings if encoding.rows is not None), None)

    def unrotated(self, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the named arguments of an attention layer under which the model does not rotate queries and keys.

        None where they reach attention without rotation anyway, as in every Poslab model.
        """
        return None

    @property
    def max_length(self) -> int | None:
        """Number of positions at which its encoding ends; None if it does not."""
        return self.encodings.max_length

    def forward(
        self,
        tokens_BT: Tensor,
        positions: Positions | None = None,
        real: Tensor | None = None,
        cache: KeyValueCache | None = None,
        patches: Tensor | None = None,
    ) -> Tensor:
        """Return token logits at each token, (B, T, V), or the outputs of the task, (B, T, size) or (B, size).

        Args:
            tokens_BT: token ids, `encodings.tokens.PATCH` at patches.
            positions: positions of the tokens; None is 0, 1, ... or the continuation of the cache.
            real: (B, T) bool, False at padding; None if there is none.
            cache: cache of earlier tokens, to which these are added; None if there are none.
            patches: (B, T, P), values of the tokens that are patches, for models that declare `patches`; None without
                any.
        """
        named = {} if patches is None else {"patches": patches}
        read = self.hidden_states if self.task_output is None or self.pooling is None else self.pooled_states
        states = read(tokens_BT, positions, real, cache, **named)
        return self.logits(states) if self.task_output is None else self.task_output(states)

    def pooled_states(
        self, tokens_BT: Tensor, positions: Positions | None, real: Tensor | None, *read: Any, **named: Any
    ) -> Tensor:
        """Return the hidden state that represents each sequence, (B, M), for models with a `pooling`; see `forward`."""
        assert self.pooling is not None
        return pooled(self.hidden_states(tokens_BT, positions, real, *read, **named), real, self.pooling)

    def hidden_states(
        self,
        tokens_BT: Tensor,
        positions: Positions | None = None,
        real: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Return the input of the output layer, (B, T, M); arguments as in `forward`, with `patches` if declared."""
        raise NotImplementedError(f"{type(self).__name__} has no hidden_states")

    def logits(self, hidden_BTM: Tensor) -> Tensor:
        """Return token logits at each token, (B, T, V), from hidden states."""
        raise NotImplementedError(f"{type(self).__name__} has no logits")

    def new_cache(self) -> KeyValueCache:
        """Return an empty cache for reading a text piece by piece; for models that declare `cache`."""
        return KeyValueCache(self.encodings.shape.num_layers)

    def begin(self, source_BS: Tensor, real: Tensor | None = None) -> Decoding:
        """Return the decoding of an empty target; for models that declare `source` and `cache`."""
        raise NotImplementedError(f"{type(self).__name__} reads no source")


ForwardPass = Callable[[Model], object]
"""A forward pass of a model over some texts, such as `lambda model: model(tokens_BT)`."""


def pooled(hidden_BTM: Tensor, real: Tensor | None, pooling: Pooling) -> Tensor:
    """Return the hidden state that represents each sequence, (B, M), whatever its padding.

    `real` is (B, T) bool, False at padding, with at least one True in each row; None if there is no padding.
    """
    if pooling == "mean":
        if real is None:
            return hidden_BTM.mean(dim=1)
        weight_BT1 = real.unsqueeze(-1).to(hidden_BTM.dtype)
        return (hidden_BTM * weight_BT1).sum(dim=1) / weight_BT1.sum(dim=1)
    if real is None:
        return hidden_BTM[:, 0 if pooling == "first" else -1]
    index = torch.arange(real.shape[1], device=real.device)
    index_B = real.int().argmax(dim=1) if pooling == "first" else torch.where(real, index, -1).amax(dim=1)
    return hidden_BTM[torch.arange(len(hidden_BTM), device=real.device), index_B]


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
        """Capabilities of the model; ValueError as `Model.capabilities_with` does."""
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
                the message starts with the name of an argument.
        """
        model = self._made(vocab_size=vocab_size, outputs=outputs, digits=digits, patch_width=patch_width)
        if vocab_size is not None:
            for encoding in (encoding for stack in model.stacks.values() for encoding in stack):
                encoding.require_vocabulary(vocab_size)
        return model

    def _made(self, **known: Any) -> Model:
        parameters = inspect.signature(self.kind).parameters
        return self.make(**{name: value for name, value in known.items() if name in parameters})
