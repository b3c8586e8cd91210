"""The contract between an encoding and the rest of the laboratory.

Dimension letters: B batch, H heads, T query positions, S key positions, R query positions of a block of rows, D head
dim, M model dim, E numbers that are remembered of a token and head.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from poslab.encodings.described import Described, VectorTable
from poslab.encodings.distance import BiasOfPairs, BiasTable
from poslab.encodings.positions import Positions
from poslab.encodings.tokens import Tokens

HOOKS = (
    "embed",
    "rotate_query",
    "rotate_key",
    "scale",
    "bias",
    "pair_bias",
    "state",
    "logits",
    "weights",
    "values",
)


class PositionalEncoding(Described):
    """No position at all; an encoding overrides only the hooks that it needs.

    The set of overridden hooks (`encoding.hooks`) decides which attention route serves the encoding, so a hook that
    does nothing must stay as it is here. `prepare` is no hook: it makes what the others read, and is always called.
    Nor are `learned`, `vectors`, `spectrum` and `content_positions`, which reports call.

    Constructor arguments named `d_model`, `num_layers`, `num_heads`, `num_kv_heads`, `head_dim`, `causal`, `digits` or
    `shape` (all of these) are filled in from the stack that the encoding serves; all others are its hyperparameters.

    `logits`, `weights` and `values` run in float32 at least, whatever the model's dtype: an encoding that uses its
    parameters there takes them `.to(q.dtype)`, and adds to what `super()` gives.
    """

    shared_by_layers: bool = True
    """Whether one instance serves all layers of a stack, or each layer has an instance (and parameters) of its own."""

    causal_only: bool = False
    """Whether it means nothing where a query sees keys ahead of it."""

    bidirectional_form: ClassVar[str | None] = None
    """The choice of conf/encoding that a causal one amounts to in attention that is not; None if there is none."""

    relative: bool = True
    """Whether a shift of all positions by the same number changes nothing."""

    depends_on_length: bool = False
    """Whether the tables depend on how many positions there are so far, so that a longer text changes earlier rows."""

    straight_through: frozenset[str] = frozenset()
    """Names of parameters that gradients move where their derivative is zero: back into a range, for example."""

    max_length: int | None = None
    """The number of positions after which the encoding is not defined; None if it never ends."""

    @property
    def hooks(self) -> frozenset[str]:
        """The names of the hooks that this encoding overrides."""
        return frozenset(hook for hook in HOOKS if getattr(type(self), hook) is not getattr(PositionalEncoding, hook))

    @property
    def only_turns(self) -> bool:
        """True if it does nothing but turn queries and keys, so that the bound on the base of rotary holds."""
        return False

    def require_hooks(self, called: Collection[str]) -> None:
        """Refuse an attention or model that would leave out something that this encoding does.

            encoding.require_hooks({"rotate_query", "rotate_key", "scale", "bias"})

        Call it where an attention of your own takes an encoding: hooks that it does not call are lost without a trace.

        Args:
            called: the names of the hooks that the attention and its model call.

        Raises:
            ValueError: if the encoding overrides another hook, or a name is not that of a hook.
        """
        if isinstance(called, str):
            raise ValueError(f"called must be a set of hooks, as in {{'rotate_query', 'rotate_key'}}, got {called!r}")
        unknown = [name for name in called if name not in HOOKS]
        if unknown:
            raise ValueError(f"hooks must be among {', '.join(HOOKS)}, got {', '.join(unknown)}")
        lost = [hook for hook in HOOKS if hook in self.hooks and hook not in called]
        if lost:
            raise ValueError(
                f"encoding {type(self).__name__} acts through {', '.join(lost)}, which this attention does not call: "
                "call it, attend with poslab.attention.attend, or choose an encoding that does without"
            )

    def embed(self, x_BTM: Tensor, positions: Positions, tokens: Tokens | None = None) -> Tensor:
        """Token embeddings with position mixed in, (B, T, M).

        Args:
            x_BTM: embeddings of the new tokens.
            positions: of the new tokens.
            tokens: the past tokens and the new ones, in storage order; None where the caller has none.
        """
        return x_BTM

    def prepare(self, query_positions: Positions, key_positions: Positions) -> Any:
        """Float32 tables, made once per forward pass and handed to the other hooks of every layer."""
        return None

    def rotate_query(self, q_BHTD: Tensor, tables: Any) -> Tensor:
        """Queries as they meet the keys; their width may differ from that of the values."""
        return q_BHTD

    def rotate_key(self, k_BHSD: Tensor, tables: Any) -> Tensor:
        """Keys as they meet the queries; here H is the number of key-value heads."""
        return k_BHSD

    def scale(self, tables: Any) -> float:
        """What the usual scale of the logits, `head_dim ** -0.5`, is multiplied by."""
        return 1.0

    def bias(self, tables: Any) -> BiasTable | BiasOfPairs | None:
        """What is added to the scaled logits: unscaled, mask-free, a function of distance alone."""
        return None

    def pair_bias(self, rows: QueryRows) -> Tensor | None:
        """As `bias`, but a function of both positions: for a block of query rows, (1 or B, H, R, S) float32."""
        return None

    def state(self, x_BTM: Tensor, positions: Positions, past_BHPE: Tensor | None) -> Tensor | None:
        """What must be remembered of each new token beside its key and value, (B, H, T, E); it is cached with them.

        Here H is any number of heads that the encoding finds right: query heads, key-value heads, or 1. In float32,
        whatever the dtype of the model and under autocast: what is summed over a text would lose positions in bfloat16.

        Args:
            x_BTM: what queries, keys and values of the new tokens are made of.
            positions: of the past tokens and the new ones, in storage order.
            past_BHPE: the state of the P past tokens; None if there are none.
        """
        return None

    def logits(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        """The logits of a block of query rows before any mask, (B, H, R, S)."""
        logits_BHRS = q_BHRD @ k_BHSD.transpose(-2, -1) * rows.scale
        bias = self.bias(rows.tables)
        added = (None if bias is None else bias.matrix(rows.rows, rows.keys), self.pair_bias(rows))
        for bias_HRS in added:
            if bias_HRS is not None:
                if bias_HRS.shape[-3] not in (1, logits_BHRS.shape[1]):
                    raise ValueError(
                        f"bias must have one head, or one for each of {logits_BHRS.shape[1]}, got {bias_HRS.shape[-3]}"
                    )
                logits_BHRS = logits_BHRS + bias_HRS
        return logits_BHRS

    def weights(self, logits_BHRS: Tensor, visible: Tensor | None) -> Tensor:
        """Attention weights from logits, zero where nothing is visible: the softmax over the visible keys."""
        if visible is None:
            return logits_BHRS.softmax(dim=-1)
        # A finite fill keeps rows that see nothing free of NaN, also in their gradients; then they become zero.
        lowest = torch.finfo(logits_BHRS.dtype).min
        return logits_BHRS.masked_fill(~visible, lowest).softmax(dim=-1).masked_fill(~visible, 0.0)

    def values(self, weights_BHRS: Tensor, v_BHSD: Tensor, rows: QueryRows) -> Tensor:
        """The output of a block of query rows, (B, H, R, D)."""
        return weights_BHRS @ v_BHSD

    def vectors(self) -> dict[str, VectorTable]:
        """Return the tables that have a learned vector for each distance or count, by name; none here."""
        return {}

    def spectrum(self, length: int) -> Tensor | None:
        """Return the inverse frequencies by which queries and keys turn; None if they do not.

        Args:
            length: tokens of the text, which some frequencies depend on.

        Returns:
            (P,) radians per token, mostly one for each pair of channels; 0 for what stands still.
        """
        return None

    def content_positions(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor | None:
        """Return how far each key is from each query by what the text says, (B, H, R, S); None if content is not read.

        It is at least 0 where a query sees the key, and anything elsewhere. Arguments are those of `logits`.
        """
        return None


@dataclass(frozen=True)
class QueryRows:
    """A block of query rows, as it meets the keys.

    Where causality lets none of these queries see the last keys, they may be left out: S is then the number of keys
    that are left, in `logits` and `values` too.

    Args:
        tables: what `prepare` made for all queries and keys.
        rows: which of the queries of `tables` these are.
        first_key: the place of the first of these queries among the keys, where a sequence attends to itself.
        scale: what the products of queries and keys are multiplied by: a number, or (1 or B, 1 or H, R, 1).
        visible: True where a query sees a key, (1 or B, 1, R, S); None if every query sees every key.
        query_state, key_state: what `state` made of the tokens of these queries and keys, (B, H, R, E) and
            (B, H, S, E) for its own H; None if the encoding remembers nothing.
        keys: which of the keys of `tables` are met, from the first on.
    """

    tables: Any
    rows: slice
    first_key: int
    scale: float | Tensor
    visible: Tensor | None = None
    query_state: Tensor | None = None
    key_state: Tensor | None = None
    keys: slice = field(default_factory=lambda: slice(None))
