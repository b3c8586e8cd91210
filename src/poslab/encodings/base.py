"""The contract between an encoding and the rest of the laboratory.

Dimension letters: B batch, H heads, T query positions, S key positions, D head dim, M model dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from poslab.encodings.positions import Positions, distances

HOOKS = ("embed", "rotate_query", "rotate_key", "bias")


class PositionalEncoding(nn.Module):
    """No position at all; an encoding overrides only the hooks that it needs.

    The set of overridden hooks (`encoding.hooks`) decides which attention route serves the encoding, so a hook that
    does nothing must stay as it is here.

    Constructor arguments named `d_model`, `num_layers`, `num_heads`, `num_kv_heads`, `head_dim` or `causal` are
    filled in from the stack that the encoding serves; all others are its hyperparameters.
    """

    shared_by_layers: ClassVar[bool] = True
    """Whether one instance serves all layers of a stack, or each layer has an instance (and parameters) of its own."""

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
        """Queries as they meet the keys."""
        return q_BHTD

    def rotate_key(self, k_BHSD: Tensor, tables: Any) -> Tensor:
        """Keys as they meet the queries."""
        return k_BHSD

    def bias(self, tables: Any) -> BiasTable | None:
        """What is added to the scaled logits: unscaled, mask-free, a function of distance alone."""
        return None


@dataclass(frozen=True)
class BiasTable:
    """A logit bias per head, float32.

    Args:
        values: (H, T + S - 1), the bias at distances `1 - T, ..., S - 1`, where `by_distance`; else (H, T, S) or
            (B, H, T, S), the bias of each query and key.
        by_distance: whether the values are one row of distances per head. Then the last query is S - 1 past the
            first key, as in self-attention with or without a cache.
    """

    values: Tensor
    by_distance: bool

    def matrix(self, num_queries: int) -> Tensor:
        """The whole bias, (1 or B, H, T, S)."""
        if not self.by_distance:
            return self.values if self.values.dim() == 4 else self.values.unsqueeze(0)
        # Row i, column j holds distance S - T + i - j: rows of a Toeplitz matrix are windows of its reversed vector.
        num_keys = self.values.shape[-1] - num_queries + 1
        return self.values.flip(-1).unfold(-1, num_keys, 1).flip(-2).unsqueeze(0)


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
        else:
            distance = distances(query_positions, key_positions)
        with torch.autocast(distance.device.type, enabled=False):
            bias = self.bias_at(distance)
        return BiasTable(bias.transpose(0, 1) if distance.dim() == 3 else bias, by_distance)

    def bias(self, tables: BiasTable) -> BiasTable:
        return tables
