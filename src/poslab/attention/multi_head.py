from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from poslab.attention.attend import Route, attend
from poslab.attention.cache import KeyValueCache
from poslab.attention.visibility import Visibility
from poslab.encodings.base import PositionalEncoding


class MultiHeadAttention(nn.Module):
    """Multi-head attention under any encoding, of a sequence to itself or to a memory.

    Args:
        d_model: width M of the inputs.
        num_heads: query heads H.
        num_kv_heads: key-value heads G, a divisor of H; fewer than H is grouped-query attention (Ainslie et al. 2023).
        head_dim: head dimension D; H * D need not be M.
        qk_norm: whether queries and keys are normalised per head (RMSNorm) before the encoding turns them.
        route: forces an attention route; None takes the cheapest exact one.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        qk_norm: bool = False,
        route: Route | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim
        self.route = route
        self.query = nn.Linear(d_model, num_heads * head_dim, bias=False)
        self.key_value = nn.Linear(d_model, 2 * num_kv_heads * head_dim, bias=False)
        self.output = nn.Linear(num_heads * head_dim, d_model, bias=False)
        self.query_norm = nn.RMSNorm(head_dim) if qk_norm else nn.Identity()
        self.key_norm = nn.RMSNorm(head_dim) if qk_norm else nn.Identity()

    def forward(
        self,
        x_BTM: Tensor,
        encoding: PositionalEncoding,
        tables: Any,
        visibility: Visibility,
        memory_BSM: Tensor | None = None,
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """The attention output, (B, T, M).

        Args:
            x_BTM: the sequence that asks.
            encoding: what relates queries to keys. The stack owns it: were it a part of each layer that it serves,
                checkpoints would hold it once per layer, and FSDP could not tell which layer's shard it is in.
            tables: the encoding's tables for its queries and all keys.
            visibility: which keys each query sees.
            memory_BSM: the sequence that answers; None is x itself.
            cache: where keys and values of this layer are kept and found; None keeps nothing.
            layer: this layer's place in the cache.
        """
        source = x_BTM if memory_BSM is None else memory_BSM
        q_BHTD = self.query(x_BTM).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
        k_BGSD, v_BGSD = (
            self.key_value(source).unflatten(-1, (2, self.num_kv_heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        )
        q_BHTD, k_BGSD = self.query_norm(q_BHTD), self.key_norm(k_BGSD)
        if cache is not None:
            k_BGSD, v_BGSD = cache.append(layer, k_BGSD, v_BGSD)
        y_BHTD = attend(q_BHTD, k_BGSD, v_BGSD, encoding, tables, visibility, self.route)
        return self.output(y_BHTD.transpose(1, 2).flatten(2))
