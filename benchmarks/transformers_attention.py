"""The attention layers of transformers, each called as its own model calls it, in causal attention."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from plan import Size
from torch import Tensor, nn
from transformers import BloomConfig, DebertaV2Config, GPTNeoXConfig, MptConfig, T5Config, XLNetConfig
from transformers.models.bloom.modeling_bloom import BloomAttention, build_alibi_tensor
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention, build_relative_position
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXAttention, GPTNeoXRotaryEmbedding
from transformers.models.mpt.modeling_mpt import MptAttention, build_mpt_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention
from transformers.models.xlnet.modeling_xlnet import XLNetModel, XLNetRelativeAttention


class AttentionLayers(nn.Module):
    """The attention layers of one architecture.

    Attributes:
        layers: one for each layer of the stack.
    """

    name: ClassVar[str]
    layers: nn.ModuleList

    def __init__(self, size: Size) -> None:
        super().__init__()

    def shared(self, x_BTM: Tensor) -> Any:
        """Return what its model makes once in a forward pass for all layers: masks, biases, angles."""
        raise NotImplementedError

    def attend(self, layer: nn.Module, x_BTM: Tensor, shared: Any) -> Tensor:
        """Return the output of a layer."""
        raise NotImplementedError

    def forward(self, x_BTM: Tensor) -> Tensor:
        """Return the output of the first layer."""
        return self.attend(self.layers[0], x_BTM, self.shared(x_BTM))


class GPTNeoX(AttentionLayers):
    """Rotary on whole heads, through PyTorch's fused attention."""

    name = "GPT-NeoX"

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        config = GPTNeoXConfig(  # type: ignore[call-arg]
            hidden_size=size.d_model,
            num_attention_heads=size.num_heads,
            max_position_embeddings=size.sequence_length,
            attention_bias=False,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
            attn_implementation="sdpa",
        )
        self.angles = GPTNeoXRotaryEmbedding(config)
        self.layers = nn.ModuleList(GPTNeoXAttention(config, index) for index in range(size.num_layers))

    def shared(self, x_BTM: Tensor) -> tuple[Tensor, Tensor]:
        return self.angles(x_BTM, torch.arange(x_BTM.shape[1], device=x_BTM.device)[None])

    def attend(self, layer: nn.Module, x_BTM: Tensor, shared: tuple[Tensor, Tensor]) -> Tensor:
        return layer(x_BTM, attention_mask=None, position_embeddings=shared)[0]


class T5(AttentionLayers):
    """A bias by buckets of distance, made once and shared by all layers, as the mask of PyTorch's attention."""

    name = "T5"

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        config = T5Config(  # type: ignore[call-arg]
            d_model=size.d_model,
            d_kv=size.head_dim,
            num_heads=size.num_heads,
            is_decoder=True,
            dropout_rate=0.0,
            attn_implementation="sdpa",
        )
        self.layers = nn.ModuleList(
            T5Attention(config, has_relative_attention_bias=index == 0, layer_idx=index, is_causal=True)
            for index in range(size.num_layers)
        )

    def shared(self, x_BTM: Tensor) -> Tensor:
        first: T5Attention = self.layers[0]  # type: ignore[assignment]
        return first.compute_bias(x_BTM.shape[1], x_BTM.shape[1], x_BTM.device)

    def attend(self, layer: nn.Module, x_BTM: Tensor, shared: Tensor) -> Tensor:
        return layer(x_BTM, mask=None, position_bias=shared)[0]


class Bloom(AttentionLayers):
    """ALiBi as a row of slopes times key positions, and a causal mask; logits and weights are whole matrices."""

    name = "BLOOM"

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        config = BloomConfig(hidden_size=size.d_model, n_head=size.num_heads)
        self.layers = nn.ModuleList(BloomAttention(config, index) for index in range(size.num_layers))

    def shared(self, x_BTM: Tensor) -> tuple[Tensor, Tensor]:
        real = torch.ones(x_BTM.shape[:2], dtype=torch.long, device=x_BTM.device)
        lowest = torch.finfo(x_BTM.dtype).min
        mask = torch.zeros((), dtype=x_BTM.dtype, device=x_BTM.device).masked_fill(_ahead(x_BTM), lowest)[None, None]
        return build_alibi_tensor(real, self.layers[0].num_heads, x_BTM.dtype), mask  # type: ignore[arg-type]

    def attend(self, layer: nn.Module, x_BTM: Tensor, shared: tuple[Tensor, Tensor]) -> Tensor:
        alibi, mask = shared
        # It adds a residual, which is not wanted here.
        return layer(x_BTM, residual=x_BTM.new_zeros(()), alibi=alibi, attention_mask=mask)[0]


class Mpt(AttentionLayers):
    """ALiBi as a row of slopes times key positions, and a causal mask; logits and weights are whole matrices."""

    name = "MPT"

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        config = MptConfig(d_model=size.d_model, n_heads=size.num_heads, max_seq_len=size.sequence_length)
        self.layers = nn.ModuleList(MptAttention(config, index) for index in range(size.num_layers))

    def shared(self, x_BTM: Tensor) -> tuple[Tensor, Tensor]:
        heads: int = self.layers[0].n_heads  # type: ignore[assignment]
        return build_mpt_alibi_tensor(heads, x_BTM.shape[1], device=x_BTM.device), _ahead(x_BTM)

    def attend(self, layer: nn.Module, x_BTM: Tensor, shared: tuple[Tensor, Tensor]) -> Tensor:
        alibi, ahead = shared
        return layer(x_BTM, position_bias=alibi, attention_mask=ahead)[0]


class XLNet(AttentionLayers):
    """Transformer-XL's logits, causal (`attn_type="uni"`); it ends with a norm, which is a part of its layer."""

    name = "XLNet"

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        config = XLNetConfig(
            d_model=size.d_model,
            n_layer=1,
            n_head=size.num_heads,
            d_inner=1,
            vocab_size=8,
            attn_type="uni",
            dropout=0.0,
        )
        self.layers = nn.ModuleList(XLNetRelativeAttention(config) for _ in range(size.num_layers))
        for parameter in self.layers.parameters():
            nn.init.normal_(parameter, std=0.02)  # they are empty until a whole model draws them
        # For its sinusoids alone; not registered, so that its parameters are no part of this.
        self._sinusoids = [XLNetModel(config)]

    def shared(self, x_BTM: Tensor) -> tuple[Tensor, Tensor]:
        batch, length = x_BTM.shape[:2]
        sinusoids = self._sinusoids[0].relative_positional_encoding(length, length, bsz=batch, device=x_BTM.device)
        return sinusoids, _ahead(x_BTM).to(x_BTM.dtype)[:, :, None, None]

    def attend(self, layer: nn.Module, x_BTM: Tensor, shared: tuple[Tensor, Tensor]) -> Tensor:
        sinusoids, ahead = shared
        x_TBM = x_BTM.transpose(0, 1)
        output_TBM = layer(x_TBM, g=None, attn_mask_h=ahead, attn_mask_g=None, r=sinusoids, seg_mat=None)[0]
        return output_TBM.transpose(0, 1)


class DebertaV2(AttentionLayers):
    """Disentangled attention with log buckets as version 2 has it, under a causal mask, and an output projection."""

    name = "DeBERTa-v2"

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        config = DebertaV2Config(  # type: ignore[call-arg]
            hidden_size=size.d_model,
            num_attention_heads=size.num_heads,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            position_buckets=256,  # this and the next as conf/encoding/deberta.yaml has them
            max_relative_positions=512,
            share_att_key=False,  # positions have projections of their own, as in the paper and in ours
        )
        self.buckets, self.max_distance = config.position_buckets, config.max_relative_positions
        self.rows = nn.Embedding(2 * config.position_buckets, size.d_model)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {"attention": DisentangledSelfAttention(config), "output": nn.Linear(size.d_model, size.d_model)}
            )
            for _ in range(size.num_layers)
        )

    def shared(self, x_BTM: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        relative = build_relative_position(x_BTM, x_BTM, self.buckets, self.max_distance)
        return relative, self.rows.weight, ~_ahead(x_BTM)[None, None]

    def attend(self, layer: nn.Module, x_BTM: Tensor, shared: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        relative, rows, visible = shared
        assert isinstance(layer, nn.ModuleDict)
        context_BTM = layer["attention"](x_BTM, visible, relative_pos=relative, rel_embeddings=rows)[0]
        return layer["output"](context_BTM)


def _ahead(x_BTM: Tensor) -> Tensor:
    """Return True where a key is ahead of a query, (T, T)."""
    length = x_BTM.shape[1]
    return torch.ones(length, length, dtype=torch.bool, device=x_BTM.device).triu(1)
