"""The interface of a model, ours or a user's own.

Dimension letters: B batch, T tokens, V vocabulary, M model dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple, Protocol

from torch import Tensor, nn

from poslab.attention import KeyValueCache
from poslab.encodings import Positions, StackEncodings

Capability = Literal["causal", "bidirectional", "source", "cache", "pooled"]
"""Something that a model can do; a task names those that it needs.

- causal: a token sees only itself and those before it, and `forward(tokens, positions, real, cache)` gives logits of
  the next;
- bidirectional: each token sees all of its sequence, under the same `forward`;
- source: `forward(source, target, real_source)` gives logits of a target that is written of a source;
- cache: a text can be read piece by piece, from `new_cache()` or, with a source, from `begin(source, real)`;
- pooled: `Outputs` of a whole sequence can be read.
"""


class Outputs(NamedTuple):
    """The outputs that a task reads from a model in place of token logits.

    Args:
        size: how many numbers.
        pooled: of each sequence as a whole; otherwise of each of its tokens.
    """

    size: int
    pooled: bool


class Decoding(Protocol):
    """Texts that are written token by token, a row each; what was written before is remembered."""

    def next_logits(self, tokens_BT: Tensor) -> Tensor:
        """Return logits of the token that follows those that are added now, (B, V)."""

    def select(self, rows_R: Tensor) -> None:
        """Continue with these rows, each any number of times."""


class Model(nn.Module):
    """A model that can be trained, evaluated and asked to generate.

    A model of your own is a subclass in a package that you trust (`trust=my_package`). Its constructor names what it
    takes, of `encoding`, `positions`, `temperature` and `attention` of the configuration, of `vocab_size`, `digits` and
    `outputs` (`Outputs` or None) of the data and the task, and of the keys of its own YAML file; one that takes a
    `stack: StackConfig` gets all that this holds. It declares `capabilities`, has its encodings as `encodings`, and
    implements `hidden_states` and `logits`, or its own `forward`.
    """

    capabilities: ClassVar[frozenset[Capability]]
    """The capabilities of this model."""

    embedding: nn.Embedding
    """The embeddings of its tokens."""

    encodings: StackEncodings
    """The encodings of the attention of its sequence to itself; of the source, where there is one."""

    @property
    def stacks(self) -> dict[str, StackEncodings]:
        """Its encodings by name: `self`, and perhaps `cross` and `encoder`."""
        return {"self": self.encodings}

    @property
    def attention_sites(self) -> Sequence[nn.Module]:
        """The blocks that evaluation looks into and that FSDP shares out; none of a model that has no such parts."""
        return ()

    @property
    def max_length(self) -> int | None:
        """The number of positions at which its encoding ends; None if it does not."""
        return self.encodings.max_length

    def forward(
        self,
        tokens_BT: Tensor,
        positions: Positions | None = None,
        real: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Return logits of a token at each token, (B, T, V).

        Args:
            tokens_BT: token ids.
            positions: where they are; None is 0, 1, ... or what follows the cache.
            real: (B, T) bool, False at padding; None has none.
            cache: what came before, to which these tokens are added; None is nothing.
        """
        return self.logits(self.hidden_states(tokens_BT, positions, real, cache))

    def hidden_states(
        self,
        tokens_BT: Tensor,
        positions: Positions | None = None,
        real: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Return what the output layer reads, (B, T, M); arguments as of `forward`."""
        raise NotImplementedError(f"{type(self).__name__} has no hidden_states")

    def logits(self, hidden_BTM: Tensor) -> Tensor:
        """Return logits of a token at each token, (B, T, V), from hidden states."""
        raise NotImplementedError(f"{type(self).__name__} has no logits")

    def new_cache(self) -> KeyValueCache:
        """Return an empty cache for reading a text piece by piece; of models that declare `cache`."""
        raise NotImplementedError(f"{type(self).__name__} has no cache")

    def begin(self, source_BS: Tensor, real: Tensor | None = None) -> Decoding:
        """Return the decoding of a target of which nothing is written; of models that declare `source` and `cache`."""
        raise NotImplementedError(f"{type(self).__name__} reads no source")
