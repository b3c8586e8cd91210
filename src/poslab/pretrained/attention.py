"""The attention function of transformers that computes attention under an encoding.

Dimension letters: B batch, H query heads, G key-value heads, T new tokens, S all tokens, D head dim, E numbers of a
token's state.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from poslab.attention import AttentionContext

NAME = "poslab"
"""Name under which transformers knows the function (`config._attn_implementation`)."""


def register() -> None:
    """Register the attention function and its mask function with transformers."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, lambda *_, **__: None)  # what each query sees is in the contexts


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    *,
    scaling: float | None = None,
    poslab_context: AttentionContext,
    poslab_state: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Return the attention output, (B, T, H, D), and no weights.

    Attention weights are never dropped, whatever the model's own dropout.

    Args:
        module: the calling attention layer.
        query, key, value: (B, H, T, D) and (B, G, S, D), as the model's own positions leave them.
        attention_mask: None; padding is in the context.
        scaling: the model's own factor on the logits; None is `D ** -0.5`.
        poslab_context, poslab_state: given by `Exchange`; the state is that of the new tokens, (B, H, T, E).
        others: of other attention functions.

    Raises:
        ValueError: for a mask of tokens by tokens.
    """
    if attention_mask is not None:
        raise ValueError("attention_mask must be (batch, tokens), 0 at padding: an encoding makes the rest itself")
    usual = query.shape[-1] ** -0.5
    if scaling is not None and scaling != usual:
        query = query * (scaling / usual)
    mixed_BHTD = poslab_context.attend(query, *poslab_context.append(key, value, poslab_state))
    return mixed_BHTD.transpose(1, 2).contiguous(), None
