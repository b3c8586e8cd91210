"""The contract between an encoding and the rest of the laboratory.

Dimension letters: B batch, H heads, T query positions, S key positions, R query positions of a block of rows, D head
dim, M model dim, E numbers that are remembered of a token and head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from poslab.encodings.positions import Positions, distances

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


class PositionalEncoding(nn.Module):
    """No position at all; an encoding overrides only the hooks that it needs.

    The set of overridden hooks (`encoding.hooks`) decides which attention route serves the encoding, so a hook that
    does nothing must stay as it is here. `prepare` is no hook: it makes what the others read, and is always called.

    Constructor arguments named `d_model`, `num_layers`, `num_heads`, `num_kv_heads`, `head_dim`, `causal` or `shape`
    (all of these) are filled in from the stack that the encoding serves; all others are its hyperparameters.

    `logits`, `weights` and `values` run in float32 at least, whatever the model's dtype: an encoding that uses its
    parameters there takes them `.to(q.dtype)`, and adds to what `super()` gives.
    """

    shared_by_layers: bool = True
    """Whether one instance serves all layers of a stack, or each layer has an instance (and parameters) of its own."""

    causal_only: bool = False
    """Whether it means nothing where a query sees keys ahead of it."""

    relative: bool = True
    """Whether a shift of all positions by the same number changes nothing."""

    depends_on_length: bool = False
    """Whether the tables depend on how many positions there are so far, so that a longer text changes earlier rows."""

    max_length: int | None = None
    """The number of positions after which the encoding is not defined; None if it never ends."""

    @property
    def hooks(self) -> frozenset[str]:
        """The names of the hooks that this encoding overrides."""
        return frozenset(hook for hook in HOOKS if getattr(type(self), hook) is not getattr(PositionalEncoding, hook))

    def embed(self, x_BTM: Tensor, positions: Positions, tokens_BT: Tensor | None = None) -> Tensor:
        """Token embeddings with position mixed in, (B, T, M)."""
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

    def bias(self, tables: Any) -> BiasTable | None:
        """What is added to the scaled logits: unscaled, mask-free, a function of distance alone."""
        return None

    def pair_bias(self, tables: Any, rows: slice) -> Tensor | None:
        """As `bias`, but a function of both positions: for these of the T queries, (1 or B, H, R, S) float32."""
        return None

    def state(self, x_BTM: Tensor, positions: Positions, past_BHPE: Tensor | None) -> Tensor | None:
        """What must be remembered of each new token beside its key and value, (B, H, T, E); it is cached with them.

        Here H is any number of heads that the encoding finds right: query heads, key-value heads, or 1.

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
        if bias is not None:
            logits_BHRS = logits_BHRS + bias.matrix(rows.num_queries, rows.rows)
        pair_bias = self.pair_bias(rows.tables, rows.rows)
        return logits_BHRS if pair_bias is None else logits_BHRS + pair_bias

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


@dataclass(frozen=True)
class QueryRows:
    """A block of query rows, as it meets all keys.

    Args:
        tables: what `prepare` made for all T queries and S keys.
        rows: which of the T queries.
        num_queries: T; the last of them stands at the last key, but in attention to another sequence.
        scale: what the products of queries and keys are multiplied by: a number, or (1 or B, 1 or H, R, 1).
        visible: True where a query sees a key, (1 or B, 1, R, S); None if every query sees every key.
        query_state, key_state: what `state` made of the tokens of these queries and of all keys, (B, H, R, E) and
            (B, H, S, E) for its own H; None if the encoding remembers nothing.
    """

    tables: Any
    rows: slice
    num_queries: int
    scale: float | Tensor
    visible: Tensor | None = None
    query_state: Tensor | None = None
    key_state: Tensor | None = None

    def first_key(self, num_keys: int) -> int:
        """The place of the first of these queries among S keys, where a sequence attends to itself."""
        return num_keys - self.num_queries + self.rows.indices(self.num_queries)[0]


@dataclass(frozen=True)
class BiasTable:
    """A logit bias per head, float32.

    Args:
        values: (H, T + S - 1) where `by_distance`, the bias at successive distances, from that of the first query to
            the last key to that of the last query to the first key; else (H, T, S) or (B, H, T, S), the bias of each
            query and key.
        by_distance: whether the values are one row of distances per head.
    """

    values: Tensor
    by_distance: bool

    def matrix(self, num_queries: int, rows: slice = slice(None)) -> Tensor:
        """The bias of T queries, or of some rows of them, (1 or B, H, R, S)."""
        if not self.by_distance:
            whole = self.values if self.values.dim() == 4 else self.values.unsqueeze(0)
            return whole[:, :, rows]
        # Entry S - 1 + i - j is for row i, column j: rows of a Toeplitz matrix are windows of its reversed vector, the
        # last row first.
        num_keys = self.values.shape[-1] - num_queries + 1
        windows = self.values.flip(-1).unfold(-1, num_keys, 1)
        start, stop, _ = rows.indices(num_queries)
        return windows[:, num_queries - stop : num_queries - start].flip(-2).unsqueeze(0)


class DistanceBias(PositionalEncoding):
    """An encoding that adds a function of distance to the logits; subclasses say which, in `bias_at`."""

    def bias_at(self, distance: Tensor) -> Tensor:
        """The bias of every head, (H, *distance.shape) float32, at distances of any shape, integer or real."""
        raise NotImplementedError

    def prepare(self, query_positions: Positions, key_positions: Positions) -> BiasTable:
        by_distance = query_positions.contiguous and key_positions.contiguous
        if by_distance:
            device = query_positions.ids.device
            distance = torch.arange(1 - query_positions.length, key_positions.length, device=device)
            distance += query_positions.stop - key_positions.stop  # not 0 where another sequence is attended to
        else:
            distance = distances(query_positions, key_positions)
        with torch.autocast(distance.device.type, enabled=False):
            bias = self.bias_at(distance)
        return BiasTable(bias.transpose(0, 1) if distance.dim() == 3 else bias, by_distance)

    def bias(self, tables: BiasTable) -> BiasTable:
        return tables
