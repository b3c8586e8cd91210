"""The contract between an encoding and the rest of the laboratory.

Dimension letters: B batch, H heads, T queries, S keys, R query rows of a block, P past tokens, D head dim, M model dim,
E numbers of a token's state.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from poslab.encodings.offsets import LogitBias
from poslab.encodings.positions import Positions
from poslab.encodings.shape import Described, VectorTable, require_heads
from poslab.encodings.tokens import Tokens

HOOKS = (
    "embed",
    "remap_positions",
    "rotate_query",
    "rotate_key",
    "rotate_value",
    "rotate_output",
    "scale",
    "bias",
    "pair_bias",
    "state",
    "with_state",
    "logits",
    "weights",
    "values",
)


class PositionalEncoding(Described):
    """A module that encodes no position; a subclass overrides only the hooks that it needs.

    The set of overridden hooks (`encoding.hooks`) decides which attention route supports the encoding, so a hook that
    does nothing must stay unchanged here. `prepare` is not a hook: it makes what the others read, and is always called.
    Nor are `learned`, `vectors`, `spectrum`, `spectrum_on_axes` and `content_positions`, which reports call, and `rows`
    and `fit`, by which an encoding starts near the encoding of a trained model.

    Constructor arguments named as the fields of `StackShape`, or `shape` (all of these), are filled in from the stack
    that the encoding supports; all others are its hyperparameters.
    Every constructor raises ValueError for an argument out of its range.

    `logits`, `weights` and `values` run in float32 at least, whatever the model's dtype: an encoding that uses its
    parameters there casts them with `.to(q.dtype)`, and adds to the result of `super()`.
    """

    shared_by_layers: bool = True
    """True if all layers of a stack share one instance; False if each layer has its own, with its own parameters."""

    causal_only: bool = False
    """True if it is undefined where a query sees keys ahead of it."""

    bidirectional_only: bool = False
    """True if it is undefined where a query sees no key ahead of it."""

    causal: bool = False
    """True if it was made for queries that see no key ahead of them, and would be wrong for others."""

    keeps_pretrained_positions: ClassVar[bool] = False
    """True if it leaves the positions of a pretrained model in place, instead of replacing them."""

    of_pretrained: ClassVar[Sequence[str]] = ()
    """Names of the hyperparameters that a pretrained model gives, unless they are given (`PretrainedFacts`)."""

    of_trained: ClassVar[Sequence[str]] = ()
    """Names of the hyperparameters that must be as in the rotary encoding under which its model was trained."""

    bidirectional_form: ClassVar[str | None] = None
    """Choice of conf/encoding that replaces a causal encoding in bidirectional attention; None if there is none."""

    relative: bool = True
    """True if shifting all positions by the same number changes nothing."""

    depends_on_length: bool = False
    """True if the tables depend on the number of positions so far, so that a longer text changes earlier rows."""

    counts: ClassVar[str] = "tokens"
    """Unit of the positions that attention has, in a report; an encoding with `remap_positions` may have another."""

    reads_axes: bool = False
    """True if it reads coordinates on several axes (`Positions.places`); others read the order in storage."""

    fits_grids: bool = False
    """True if it fits its own grid to each image, as no sampler must have done before it."""

    straight_through: frozenset[str] = frozenset()
    """Names of parameters that gradients move where their derivative is zero, such as back into a range."""

    max_length: int | None = None
    """Number of positions past which the encoding is undefined; None if there is no end."""

    @property
    def max_patches(self) -> int | None:
        """Number of patches past which the encoding is undefined, by default `max_length`; None if there is no end."""
        return self.max_length

    @property
    def hooks(self) -> frozenset[str]:
        """Names of the hooks that this encoding overrides."""
        return frozenset(hook for hook in HOOKS if getattr(type(self), hook) is not getattr(PositionalEncoding, hook))

    @property
    def is_pure_rotation(self) -> bool:
        """True if it only rotates queries and keys, so that the bound on the base of rotary applies."""
        return False

    def require_hooks(self, called: Collection[str]) -> None:
        """Raise an error for an attention or model that does not call every hook of this encoding.

            encoding.require_hooks({"rotate_query", "rotate_key", "scale", "bias"})

        Name the hooks that your own attention and its model call: hooks that they do not call are silently lost.

        Raises:
            ValueError: if the encoding overrides another hook, or a name is not a hook.
        """
        if isinstance(called, str):
            raise ValueError(f"called must be a set of hooks, as in {{'rotate_query', 'rotate_key'}}, got {called!r}")
        if unknown := [name for name in called if name not in HOOKS]:
            raise ValueError(f"hooks must be among {', '.join(HOOKS)}, got {', '.join(unknown)}")
        if lost := [hook for hook in HOOKS if hook in self.hooks and hook not in called]:
            raise ValueError(
                f"encoding {type(self).__name__} acts through {', '.join(lost)}, which this attention does not call: "
                "call it, attend with poslab.attention.attend, or choose an encoding that does without"
            )

    def embed(self, x_BTM: Tensor, positions: Positions, tokens: Tokens | None = None) -> Tensor:
        """Return token embeddings with position mixed in, (B, T, M).

        Args:
            x_BTM: embeddings of the new tokens.
            positions: positions of the new tokens.
            tokens: past and new tokens, in storage order; None where the caller has none.
        """
        return x_BTM

    def remap_positions(self, positions: Positions, tokens: Tokens | None = None) -> Positions:
        """Return other positions of tokens for the attention of all layers, which may depend on what is read.

        Which keys a query sees still follows the given positions.

        Args:
            positions: of the last T tokens.
            tokens: past and new tokens, in storage order, as `embed` has them.
        """
        return positions

    def prepare(self, query_positions: Positions, key_positions: Positions) -> Any:
        """Return float32 tables, made once per forward pass, for the other hooks of every layer."""
        return None

    def rotate_query(self, q_BHTD: Tensor, tables: Any) -> Tensor:
        """Return the queries as they meet the keys; their width may differ from the values'."""
        return q_BHTD

    def rotate_key(self, k_BHSD: Tensor, tables: Any) -> Tensor:
        """Return the keys as they meet the queries; here H is the number of key-value heads."""
        return k_BHSD

    def rotate_value(self, v_BHSD: Tensor, tables: Any) -> Tensor:
        """Return the values as they are averaged, of the same width; here H is the number of key-value heads."""
        return v_BHSD

    def rotate_output(self, y_BHTD: Tensor, tables: Any) -> Tensor:
        """Return the output of each query from the averages of values, of the same width."""
        return y_BHTD

    def scale(self, tables: Any) -> float:
        """Return the factor on the usual scale of the logits, `head_dim ** -0.5`."""
        return 1.0

    def bias(self, tables: Any) -> LogitBias | None:
        """Return the bias of the scaled logits: unscaled, mask-free, a function of only the distance."""
        return None

    def pair_bias(self, rows: QueryRows) -> Tensor | None:
        """Return a bias that depends on both positions, for a block of query rows, (1 or B, H, R, S) float32."""
        return None

    def state(self, x_BTM: Tensor, positions: Positions, past_BHPE: Tensor | None) -> Tensor | None:
        """Return the state of each new token, (B, H, T, E), which is cached next to its key and value.

        H is any number of heads that suits the encoding: query heads, key-value heads, or 1. The state is float32
        whatever the dtype of the model and under autocast: sums over a text would lose positions in bfloat16.

        Args:
            x_BTM: input of the projections to queries, keys and values, for the new tokens.
            positions: positions of the past and the new tokens, in storage order.
            past_BHPE: state of the P past tokens; None if there are none.
        """
        return None

    def with_state(self, tables: Any, query_state_BHTE: Tensor, key_state_BHSE: Tensor) -> Any:
        """Return the tables of a layer for its rotations, `rotate_query` and the like, made of its tokens' states.

        Queries and keys can so rotate by content on the routes of a rotation by position. The other hooks get the
        tables of `prepare`.

        Args:
            tables: result of `prepare`.
            query_state_BHTE, key_state_BHSE: `state` of the queries and of all keys; the same tensor where each query
                is a key and the other way round.
        """
        return tables

    def logits(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        """Return the logits of a block of query rows before any mask, (B, H, R, S)."""
        logits_BHRS = q_BHRD @ k_BHSD.transpose(-2, -1) * rows.scale
        bias = self.bias(rows.tables)
        for bias_HRS in (None if bias is None else bias.matrix(rows.rows, rows.keys), self.pair_bias(rows)):
            if bias_HRS is not None:
                require_heads("bias", bias_HRS.shape[-3], logits_BHRS.shape[1])
                logits_BHRS = logits_BHRS + bias_HRS
        return logits_BHRS

    def weights(self, logits_BHRS: Tensor, visible: Tensor | None) -> Tensor:
        """Return the attention weights: a softmax over the visible keys, 0 where nothing is visible."""
        if visible is None:
            return logits_BHRS.softmax(dim=-1)
        # A finite fill keeps rows that see nothing, and their gradients, free of NaN; the second fill makes them zero.
        lowest = torch.finfo(logits_BHRS.dtype).min
        return logits_BHRS.masked_fill(~visible, lowest).softmax(dim=-1).masked_fill(~visible, 0.0)

    def values(self, weights_BHRS: Tensor, v_BHSD: Tensor, rows: QueryRows) -> Tensor:
        """Return the output of a block of query rows, (B, H, R, D)."""
        return weights_BHRS @ v_BHSD

    def require_vocabulary(self, vocab_size: int) -> None:
        """Raise ValueError for hyperparameters that name tokens which a vocabulary of this size does not have."""

    def vectors(self) -> dict[str, VectorTable]:
        """Return the tables that have a learned vector for each distance or count, by name; here none."""
        return {}

    @property
    def rows(self) -> Tensor | None:
        """Learned vectors of the positions 0, 1, ..., (N, M), that are added to embeddings; None without any."""
        return None

    @property
    def can_be_fitted(self) -> bool:
        """True if it has a `fit`."""
        return type(self).fit is not PositionalEncoding.fit

    def fit(self, distance_N: Tensor, logits_HN: Tensor, weight_N: Tensor) -> None:
        """Set the parameters so that the bias is nearest to given logits, up to a constant of each head.

            minimise  sum_d weight_d (bias_h(d) - logits_h(d) - c_h)^2  over the parameters and c_h

        A softmax ignores the constants.

        Args:
            distance_N: distances d, query minus key, each once, integers.
            logits_HN: logits at these distances, float64.
            weight_N: their weights, above 0, float64.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be fitted")

    def spectrum(self, length: int) -> Tensor | None:
        """Return the inverse frequencies by which queries and keys rotate, (N,) radians per token; None if they do not.

        Usually one for each pair of channels, and 0 for a channel that does not rotate. Some depend on the length of
        the text, in tokens.
        """
        return None

    def spectrum_on_axes(self, lengths: Sequence[int]) -> Tensor | None:
        """Return the inverse frequencies by which queries and keys rotate along each axis; None if they do not.

        They are (A, H, N) radians per step, H is 1 where all heads are alike, and a pair of channels that does not read
        an axis has 0 there. Some depend on the lengths of the A axes (`Positions.lengths`). None also where a rotation
        reads the order in storage.
        """
        return None

    def content_positions(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor | None:
        """Return the distance of each key from each query by content, (B, H, R, S); None if content is not read.

        At least 0 where a query sees the key, any number elsewhere. Arguments as of `logits`.
        """
        return None


@dataclass(frozen=True)
class QueryRows:
    """A block of query rows and the keys that it meets.

    Trailing keys that causality hides from all of these queries may be left out: S is then the number of keys that
    remain, in `logits` and `values` too.

    Args:
        tables: result of `prepare` for all queries and keys.
        rows: slice of the queries of `tables`.
        first_key: index of the first of these queries among the keys, where a sequence attends to itself.
        scale: factor on the products of queries and keys: a number, or (1 or B, 1 or H, R, 1).
        visible: True where a query sees a key, (1 or B, 1, R, S); None if every query sees every key.
        query_state, key_state: `state` of these queries and keys, (B, H, R, E) and (B, H, S, E); None if there is none.
        keys: slice of the keys of `tables`, from the first on.
    """

    tables: Any
    rows: slice
    first_key: int
    scale: float | Tensor
    visible: Tensor | None = None
    query_state: Tensor | None = None
    key_state: Tensor | None = None
    keys: slice = field(default_factory=lambda: slice(None))
