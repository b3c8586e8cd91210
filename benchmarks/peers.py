"""The peers: other projects' attention under the encodings that they have, at equal sizes.

A peer is measured as one attention layer, and as a whole decoder. x-transformers brings its own decoder. Of
transformers the attention layers alone are taken, and put into blocks that are like ours: its whole models also differ
in feed-forward layers, norms and biases, and that difference would be none of the encoding's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import transformers_attention as hf
from size import Size
from torch import Tensor, nn
from x_transformers_decoder import XTransformersAttention, x_transformers_decoder

from poslab.models.blocks import GatedMlp

X_TRANSFORMERS = "x-transformers"


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


@dataclass(frozen=True)
class _XTransformers:
    """x-transformers with some flags; the attention is fused (`attn_flash`) wherever it does not refuse that."""

    flags: Mapping[str, Any] = field(default_factory=dict)
    materialises: str = ""
    flash: bool = True

    def peer(self) -> Peer:
        def attention(size: Size) -> nn.Module:
            return XTransformersAttention(size, self.flags, self.flash)

        def decoder(size: Size) -> nn.Module:
            return x_transformers_decoder(size, self.flags, self.flash)

        on_embeddings = {"use_abs_pos_emb"} & self.flags.keys()
        return Peer(X_TRANSFORMERS, self.materialises, None if on_embeddings else attention, decoder)


_X_TRANSFORMERS = {
    "none": _XTransformers(),
    "sinusoidal": _XTransformers({"use_abs_pos_emb": True, "scaled_sinu_pos_emb": True}),
    "learned": _XTransformers({"use_abs_pos_emb": True}),
    "rotary": _XTransformers({"rotary_pos_emb": True}),
    "rope_linear": _XTransformers({"rotary_pos_emb": True, "rotary_interpolation_factor": 4.0}),
    "rope_ntk": _XTransformers({"rotary_pos_emb": True, "rotary_base_rescale_factor": 4.0}),
    "xpos": _XTransformers({"rotary_xpos": True}),
    "alibi": _XTransformers({"alibi_pos_bias": True}, "the bias, as a mask"),
    "forgetting": _XTransformers({"attn_data_dependent_alibi": True}, "the bias, as a mask that learns"),
    "relative_projection": _XTransformers({"attn_use_rel_proj_pos_bias": True}, "the bias, as a mask that learns"),
    # Queries twice as wide as values: PyTorch's kernel for a processor refuses them, and its other form is not fused.
    "pope": _XTransformers({"polar_pos_emb": True}, "logits and weights"),
    "t5": _XTransformers({"rel_pos_bias": True}, "bias, logits and weights: it refuses attn_flash", flash=False),
    "cope": _XTransformers(
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
    found = [_X_TRANSFORMERS[encoding].peer()] if encoding in _X_TRANSFORMERS else []
    for kind, materialises in _TRANSFORMERS.get(encoding, []):
        found.append(Peer(kind.name, materialises, kind, partial(PeerDecoder, kind)))
    return found
