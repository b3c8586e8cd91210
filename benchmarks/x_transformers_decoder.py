"""The decoder of x-transformers at our sizes: tied embeddings, RMSNorm, SwiGLU, no biases but one in its gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from size import Size
from torch import Tensor, nn
from x_transformers import Decoder, TransformerWrapper
from x_transformers.x_transformers import Attention

_OF_WRAPPER = ("use_abs_pos_emb", "scaled_sinu_pos_emb")


def x_transformers_decoder(size: Size, flags: Mapping[str, Any], flash: bool = True) -> nn.Module:
    """Return a whole decoder.

    Args:
        size: of the model.
        flags: what x-transformers calls the encoding.
        flash: whether it may use PyTorch's fused attention.
    """
    of_wrapper = {"use_abs_pos_emb": False, **{name: flags[name] for name in flags if name in _OF_WRAPPER}}
    return TransformerWrapper(
        num_tokens=size.vocab_size,
        max_seq_len=size.sequence_length,
        attn_layers=_layers(size, flags, flash),
        tie_embedding=True,
        **of_wrapper,
    )


class XTransformersAttention(nn.Module):
    """One attention layer of such a decoder, without norm and residual, as the decoder calls it."""

    def __init__(self, size: Size, flags: Mapping[str, Any], flash: bool = True) -> None:
        super().__init__()
        self.stack = _layers(size, flags, flash)
        (self.attention,) = (block[1] for block in self.stack.layers if isinstance(block[1], Attention))

    def forward(self, x_BTM: Tensor) -> Tensor:
        """Return the output of the layer."""
        ids = torch.arange(x_BTM.shape[1], device=x_BTM.device)
        tables = {
            name: encoding(ids)
            for name in ("rotary_pos_emb", "polar_pos_emb")
            if (encoding := getattr(self.stack, name)) is not None
        }
        return self.attention(x_BTM, rel_pos=self.stack.rel_pos, **tables)


def _layers(size: Size, flags: Mapping[str, Any], flash: bool) -> Decoder:
    rotary = {"rotary_emb_dim": size.head_dim} if any(name.startswith("rotary") for name in flags) else {}
    return Decoder(
        dim=size.d_model,
        depth=size.num_layers,
        heads=size.num_heads,
        attn_dim_head=size.head_dim,
        attn_flash=flash,
        use_rmsnorm=True,
        ff_glu=True,
        ff_swish=True,
        ff_no_bias=True,
        ff_mult=size.mlp_hidden / size.d_model,
        verbose=False,
        **rotary,  # by default half of a head turns
        **{name: value for name, value in flags.items() if name not in _OF_WRAPPER},
    )
