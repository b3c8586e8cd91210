"""The peers: other projects' attention under the encodings that they have, at equal sizes.

A peer is measured as one attention layer, and as a whole decoder. x-transformers brings its own decoder. Of
transformers the attention layers alone are taken, and put into blocks that are like ours: its whole models also differ
in feed-forward layers, norms and biases, and that difference would be none of the encoding's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import transformers_attention as hf
from plan import Size
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from x_transformers import Decoder, TransformerWrapper
from x_transformers.x_transformers import Attention

from poslab.models.blocks import GatedMlp

X_TRANSFORMERS = "x-transformers"
_OF_WRAPPER = ("use_abs_pos_emb", "scaled_sinu_pos_emb")


class Llama(nn.Module):
    """The whole model of transformers with tied embeddings: tokens in, logits out.

    Args:
        size: of the model.
        attention: `sdpa`, PyTorch's fused attention, or `eager`.
    """

    def __init__(self, size: Size, attention: str = "sdpa") -> None:
        super().__init__()
        config = LlamaConfig(  # type: ignore[call-arg]
            vocab_size=size.vocab_size,
            hidden_size=size.d_model,
            intermediate_size=size.mlp_hidden,
            num_hidden_layers=size.num_layers,
            num_attention_heads=size.num_heads,
            max_position_embeddings=size.sequence_length,
            tie_word_embeddings=True,
            attn_implementation=attention,
            use_cache=False,
        )
        self.model = LlamaForCausalLM(config)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return the logits, (B, T, V)."""
        logits_BTV: Tensor = self.model(input_ids=tokens_BT).logits
        return logits_BTV

    def with_compiled_layers(self) -> Llama:
        """Compile each layer: its attention stays causal without a mask, which a whole compiled model makes."""
        for layer in self.model.model.layers:
            layer.compile()
        return self


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


class PeerDecoder(nn.Module):
    """The attention layers of a peer in pre-norm blocks with gated feed-forward layers, embeddings tied: as ours."""

    def __init__(self, kind: type[hf.AttentionLayers], size: Size) -> None:
        super().__init__()
        attention = kind(size)
        self.embedding = nn.Embedding(size.vocab_size, size.d_model)
        self.attention = attention
        self.attention_norms, self.mlp_norms = (
            nn.ModuleList(nn.RMSNorm(size.d_model) for _ in attention.layers) for _ in range(2)
        )
        self.mlps = nn.ModuleList(GatedMlp(size.d_model, size.mlp_hidden) for _ in attention.layers)
        self.norm = nn.RMSNorm(size.d_model)
        self.output = nn.Linear(size.d_model, size.vocab_size, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.output.weight = self.embedding.weight

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return logits of the next token, (B, T, V)."""
        x_BTM = self.embedding(tokens_BT)
        shared = self.attention.shared(x_BTM)
        blocks = zip(self.attention.layers, self.attention_norms, self.mlp_norms, self.mlps, strict=True)
        for layer, attention_norm, mlp_norm, mlp in blocks:
            x_BTM = x_BTM + self.attention.attend(layer, attention_norm(x_BTM), shared)
            x_BTM = x_BTM + mlp(mlp_norm(x_BTM))
        return self.output(self.norm(x_BTM))


@dataclass(frozen=True)
class Peer:
    """An implementation of an encoding elsewhere.

    Args:
        name: as tables call it.
        materialises: what of the size T x T it makes beside what attention without an encoding does; empty if nothing.
        attention: makes its attention layers; None if it acts on embeddings alone.
        decoder: makes a whole decoder.
    """

    name: str
    materialises: str
    attention: Callable[[Size], nn.Module] | None
    decoder: Callable[[Size], nn.Module]


def _x_transformers(flags: Mapping[str, Any] | None = None, materialises: str = "", flash: bool = True) -> Peer:
    """Return x-transformers with some flags, whose attention is fused (`attn_flash`) unless it refuses that."""
    flags = flags or {}
    attention = None if "use_abs_pos_emb" in flags else partial(XTransformersAttention, flags=flags, flash=flash)
    return Peer(X_TRANSFORMERS, materialises, attention, partial(x_transformers_decoder, flags=flags, flash=flash))


_X_TRANSFORMERS = {
    "none": _x_transformers(),
    "sinusoidal": _x_transformers({"use_abs_pos_emb": True, "scaled_sinu_pos_emb": True}),
    "learned": _x_transformers({"use_abs_pos_emb": True}),
    "rotary": _x_transformers({"rotary_pos_emb": True}),
    "rope_linear": _x_transformers({"rotary_pos_emb": True, "rotary_interpolation_factor": 4.0}),
    "rope_ntk": _x_transformers({"rotary_pos_emb": True, "rotary_base_rescale_factor": 4.0}),
    "xpos": _x_transformers({"rotary_xpos": True}),
    "alibi": _x_transformers({"alibi_pos_bias": True}, "the bias, as a mask"),
    "forgetting": _x_transformers({"attn_data_dependent_alibi": True}, "the bias, as a mask that learns"),
    "relative_projection": _x_transformers({"attn_use_rel_proj_pos_bias": True}, "the bias, as a mask that learns"),
    # Queries twice as wide as values: PyTorch's kernel for a processor refuses them, and its other form is not fused.
    "pope": _x_transformers({"polar_pos_emb": True}, "logits and weights"),
    "t5": _x_transformers({"rel_pos_bias": True}, "bias, logits and weights: it refuses attn_flash", flash=False),
    "cope": _x_transformers(
        {"attn_use_cope": True, "attn_cope_max_pos": 64},  # as many as conf/encoding/cope.yaml has
        "counts, logits and weights: it refuses attn_flash",
        flash=False,
    ),
}

_TRANSFORMERS: dict[str, list[tuple[type[hf.AttentionLayers], str]]] = {
    "rotary": [(hf.GPTNeoX, "")],
    "alibi": [(hf.Bloom, "logits and weights"), (hf.Mpt, "logits and weights")],
    "t5": [(hf.T5, "the bias, as a mask that learns")],
    "transformer_xl": [(hf.XLNet, "both products, logits and weights")],
    "deberta": [(hf.DebertaV2, "three products, logits and weights")],
}


def peers_of(encoding: str) -> list[Peer]:
    """Return the peers that have an encoding."""
    peers = [_X_TRANSFORMERS[encoding]] if encoding in _X_TRANSFORMERS else []
    for kind, materialises in _TRANSFORMERS.get(encoding, []):
        peers.append(Peer(kind.name, materialises, kind, partial(PeerDecoder, kind)))
    return peers
