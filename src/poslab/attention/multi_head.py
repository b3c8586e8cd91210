"""Multi-head attention.

Dimension letters: B batch, H heads, G key-value heads, T queries, S keys, D head dim, M model dim, E state numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poslab.attention.context import AttentionContext
from poslab.compiled.rows import RMSNorm


class HeadNorm(RMSNorm):
    """RMSNorm of the channels of a head, computed in the type of its weight, whatever autocast makes of the input."""

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = super().forward(x.to(self.weight.dtype))
        return normed


class MultiHeadAttention(nn.Module):
    """Multi-head attention under any encoding, to the sequence itself or to a memory (cross-attention).

    Args:
        d_model: width M of the inputs.
        num_heads: query heads H.
        num_kv_heads: key-value heads G, a divisor of H; fewer than H is grouped-query attention (Ainslie et al. 2023).
        head_dim: head dimension D; H * D need not be M.
        qk_norm: True normalises queries and keys per head (RMSNorm) before the encoding rotates them.
        shared_key: share of the channels of a key, the first ones, that all heads have in common, rounded down: under
            an encoding that rotates only these, the decoupled rotary embedding of DeepSeek (Liu et al. 2024, V2).
        shared_query: True gives heads 2h and 2h + 1 the same query, as RoPE++ needs.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        qk_norm: bool = False,
        shared_key: float = 0.0,
        shared_query: bool = False,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim
        self.heads_of_query = 2 if shared_query else 1
        self.query = nn.Linear(d_model, num_heads // self.heads_of_query * head_dim, bias=False)
        self.num_shared = int(shared_key * head_dim)
        num_copies = (num_kv_heads - 1) * self.num_shared
        self.key_value = nn.Linear(d_model, 2 * num_kv_heads * head_dim - num_copies, bias=False)
        self.output = nn.Linear(num_heads * head_dim, d_model, bias=False)
        self.query_norm = HeadNorm(head_dim) if qk_norm else nn.Identity()
        self.key_norm = HeadNorm(head_dim) if qk_norm else nn.Identity()

    def forward(self, x_BTM: Tensor, context: AttentionContext, memory_BSM: Tensor | None = None) -> Tensor:
        """Return the attention output, (B, T, M).

        Args:
            x_BTM: sequence of the queries.
            context: relation of its queries to the keys.
            memory_BSM: sequence of the keys and values; None is x itself. A cache keeps them from the first call on.

        Raises:
            ValueError: if the encoding has a state of each token, and there is a memory.
        """
        cache = context.cache
        if memory_BSM is not None and cache is not None and len(cache):
            q_BHTD = self.queries(x_BTM)
            k_BGSD, v_BGSD = cache.contents()  # a memory does not grow
            y_BHTD = context.attend(q_BHTD, k_BGSD, v_BGSD)
        else:
            q_BHTD, k_BGSD, v_BGSD, state_BHSE = self.project(x_BTM, context, memory_BSM)
            y_BHTD = context.attend(q_BHTD, *context.append(k_BGSD, v_BGSD, state_BHSE))
        return self.output(y_BHTD.transpose(1, 2).flatten(2))

    def queries(self, x_BTM: Tensor) -> Tensor:
        """Return queries (B, H, T, D), not rotated."""
        q_BHTD: Tensor = self.query_norm(self.of_heads(self.query(x_BTM)))
        return q_BHTD

    def of_heads(self, projected_BTN: Tensor) -> Tensor:
        """Return queries of all heads, (B, H, T, D), of the N numbers that `query` makes of each token."""
        q_BHTD = projected_BTN.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        return q_BHTD.repeat_interleave(self.heads_of_query, dim=1) if self.heads_of_query > 1 else q_BHTD

    def project(
        self, x_BTM: Tensor, context: AttentionContext, memory_BSM: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return queries (B, H, T, D), keys and values (B, G, S, D), not rotated, and the encoding's state of them.

        Only these tokens, without a cache. Arguments and errors as in `forward`.
        """
        source = x_BTM if memory_BSM is None else memory_BSM
        q_BHTD = self.queries(x_BTM)
        k_BGSD, v_BGSD = self.keys_and_values(self.key_value(source))
        k_BGSD = self.key_norm(k_BGSD)
        if memory_BSM is not None and "state" in context.encoding.hooks:
            name = type(context.encoding).__name__
            raise ValueError(f"encoding {name} supports only attention of a sequence to itself")
        return q_BHTD, k_BGSD, v_BGSD, context.state(x_BTM)

    def keys_and_values(self, projected_BSN: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of all heads, (B, G, S, D), of the N numbers that `key_value` makes of each token."""
        if not self.num_shared:
            both = projected_BSN.unflatten(-1, (2, self.num_kv_heads, self.head_dim))
            k_BGSD, v_BGSD = both.permute(2, 0, 3, 1, 4)
            return k_BGSD, v_BGSD
        heads, width = self.num_kv_heads, self.head_dim - self.num_shared
        shared, separate, values = projected_BSN.split([self.num_shared, heads * width, heads * self.head_dim], dim=-1)
        own_BGSN, v_BGSD = (x.unflatten(-1, (heads, x.shape[-1] // heads)).transpose(1, 2) for x in (separate, values))
        return torch.cat([shared[:, None].expand(-1, heads, -1, -1), own_BGSN], dim=-1), v_BGSD
