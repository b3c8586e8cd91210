"""A decoder of ours as a class of transformers that needs no code beside it: Llama, Mistral, Qwen3 or SmolLM3.

Dimension letters: D head dim, M model dim.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from poslab.encodings import NoPosition, PositionalEncoding, Positions, Rotary
from poslab.models import Decoder, Model
from poslab.pretrained.export.rope_parameters import Rope, channel_order, rope_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig

EXPORTED = "rotary with any base, fraction, layout or scaling, none, and rnope"
"""Encodings that a plain class can have."""

ACTS = {
    "embed": "changes the token embeddings",
    "bias": "adds a bias to the logits",
    "pair_bias": "adds a bias to the logits",
    "state": "remembers numbers of each token beside its key and value",
    "logits": "makes the logits itself",
}
"""Effects of hooks that no plain class has, the most telling first."""


@dataclass(frozen=True)
class Form:
    """A model as transformers loads it.

    Args:
        config: its configuration.
        weights: its weights by the names of transformers, tied ones under both names.
        notes: differences in use that its logits do not show, one sentence each.
    """

    config: PretrainedConfig
    weights: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def plain_form(model: Model, length: int) -> Form:
    """Return a decoder as a class of transformers.

    Args:
        model: the model; its logits become those of the class.
        length: training length, in tokens.

    Raises:
        ValueError: if no class has such a model.
    """
    decoder = _decoder(model)
    rotary, positioned = _rotary(decoder)
    head_dim = decoder.shape.head_dim
    config, rope = _config(decoder, rotary, positioned, length)
    order = channel_order(rotary, head_dim)
    return Form(config, dict(_weights(decoder, order)), tuple(_notes(decoder, rope)))


def _decoder(model: Model) -> Decoder:
    """Return the model, if a class of transformers can be like it; ValueError if not."""
    if type(model) is not Decoder:
        raise ValueError(f"model must be a decoder to be exported, got {type(model).__name__}")
    if model.pooling is not None or model.output.out_features != model.vocab_size:
        raise ValueError("model must predict tokens to be exported, and this one has outputs of its own")
    if model.stack.temperature is not None:
        name = type(model.encodings.temperature(0)).__name__
        raise ValueError(
            f"temperature {name} multiplies the logits by the number of visible keys, which no class of transformers "
            "does: a run without a temperature can be exported"
        )
    if model.position_sampler is not None:
        places = Positions.range(min(8, model.max_length or 8))
        sampler = copy.deepcopy(model.position_sampler).eval()
        if not torch.equal(sampler(places, 1).ids, places.ids):
            raise ValueError(
                f"positions {type(sampler).__name__} moves tokens in evaluation too, which no class of "
                "transformers does: samplers that move them in training alone, such as shifted, can be exported"
            )
    if model.shape.head_dim % 2:
        raise ValueError(f"head_dim must be even to be exported, got {model.shape.head_dim}")
    return model


def _rotary(decoder: Decoder) -> tuple[Rotary | None, list[bool]]:
    """Return the rotary encoding of a stack, None if it has none, and for each layer True if it turns there.

    Raises:
        ValueError: for another encoding.
    """
    layers = [decoder.encodings.layer(index) for index in range(decoder.shape.num_layers)]
    found: Rotary | None = None
    for encoding in decoder.encodings:
        if type(encoding) is NoPosition:
            continue
        if type(encoding) is not Rotary:
            raise ValueError(f"encoding {type(encoding).__name__} {_effect(encoding)}: {EXPORTED} can be exported")
        if found is not None:
            raise ValueError("encoding must turn in the same way in all layers to be exported, got several rotary ones")
        found = encoding
    return found, [type(encoding) is Rotary for encoding in layers]


def _effect(encoding: PositionalEncoding) -> str:
    effect = next((ACTS[hook] for hook in ACTS if hook in encoding.hooks), "turns queries and keys in a way of its own")
    return f"{effect}, which no class of transformers with this decoder does"


def _config(
    decoder: Decoder, rotary: Rotary | None, positioned: list[bool], length: int
) -> tuple[PretrainedConfig, Rope]:
    """Return the configuration of the class that has all of a decoder, and its rotation.

    Raises:
        ValueError: if there is no such class.
    """
    from transformers import LlamaConfig, MistralConfig, Qwen3Config, SmolLM3Config

    stack, shape = decoder.stack, decoder.shape
    windows = [_narrower(stack.window, own) for own in decoder.encodings.windows]
    sizes = {window for window in windows if window is not None}
    if len(sizes) > 1:
        raise ValueError(f"window must be the same in all layers that have one to be exported, got {sorted(sizes)}")
    window = next(iter(sizes), None)
    some_positioned = len(set(positioned)) > 1
    of_layers: dict[str, Any] = {
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "layer_types": ["full_attention" if own is None else "sliding_attention" for own in windows],
    }
    make: Any
    given: dict[str, Any]
    if stack.qk_norm and some_positioned:
        raise ValueError("qk_norm must be false to export an encoding with layers without position: no class has both")
    if stack.qk_norm:
        make, given = Qwen3Config, of_layers
    elif some_positioned or len(set(windows)) > 1:
        make, given = SmolLM3Config, {**of_layers, "no_rope_layers": [int(turns) for turns in positioned]}
    elif window is not None or shape.d_model % shape.num_heads:  # of which Llama's head_dim must be free too
        make, given = MistralConfig, {"sliding_window": window}
    else:
        make, given = LlamaConfig, {}
    weight = decoder.embedding.weight

    def config(rope: Rope) -> PretrainedConfig:
        return make(
            vocab_size=decoder.vocab_size,
            hidden_size=shape.d_model,
            intermediate_size=stack.mlp_hidden,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_kv_heads,
            head_dim=shape.head_dim,
            max_position_embeddings=rope.max_length,
            rms_norm_eps=torch.finfo(torch.float32).eps,  # of torch's RMSNorm, in which bfloat16 is computed too
            tie_word_embeddings=decoder.output.weight is weight,
            rope_parameters=dict(rope.parameters),
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
            dtype=weight.dtype,
            **given,
        )

    rope = rope_of(rotary, shape.head_dim, length, config)
    return config(rope), rope


def _narrower(first: int | None, second: int | None) -> int | None:
    return min((width for width in (first, second) if width is not None), default=None)


def _weights(decoder: Decoder, order: list[int]) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of transformers by name, with the channels of queries and keys in its order."""

    def reordered(rows: Tensor) -> Tensor:
        """Return the rows of projections to heads, (H * D, M), or of a norm, (D,), in the order of transformers."""
        return rows.unflatten(0, (-1, len(order)))[:, order].flatten(0, 1)

    own: dict[str, Tensor] = decoder.state_dict()
    yield "model.embed_tokens.weight", own["embedding.weight"]
    yield "model.norm.weight", own["norm.weight"]
    yield "lm_head.weight", own["output.weight"]
    for number in range(decoder.shape.num_layers):
        block, layer = f"blocks.{number}", f"model.layers.{number}"
        key, value = own[f"{block}.attention.key_value.weight"].chunk(2)
        gate, up = own[f"{block}.mlp.gate_up.weight"].chunk(2)
        yield f"{layer}.input_layernorm.weight", own[f"{block}.attention_norm.weight"]
        yield f"{layer}.self_attn.q_proj.weight", reordered(own[f"{block}.attention.query.weight"])
        yield f"{layer}.self_attn.k_proj.weight", reordered(key)
        yield f"{layer}.self_attn.v_proj.weight", value
        yield f"{layer}.self_attn.o_proj.weight", own[f"{block}.attention.output.weight"]
        if decoder.stack.qk_norm:
            yield f"{layer}.self_attn.q_norm.weight", reordered(own[f"{block}.attention.query_norm.weight"])
            yield f"{layer}.self_attn.k_norm.weight", reordered(own[f"{block}.attention.key_norm.weight"])
        yield f"{layer}.post_attention_layernorm.weight", own[f"{block}.mlp_norm.weight"]
        yield f"{layer}.mlp.gate_proj.weight", gate
        yield f"{layer}.mlp.up_proj.weight", up
        yield f"{layer}.mlp.down_proj.weight", own[f"{block}.mlp.output.weight"]


def _notes(decoder: Decoder, rope: Rope) -> Iterator[str]:
    """Yield what differs in use although the logits of a text are the same."""
    if rope.changes_in_generation is not None:
        yield (
            f"In generation, a text that grows past {rope.changes_in_generation} tokens continues differently: "
            "transformers keeps keys in its cache as they were rotated, Poslab rotates them anew."
        )
    if rope.parameters["rope_type"] == "dynamic":
        yield "After a long text, transformers keeps its larger base for shorter ones, down to the training length."
    if decoder.stack.dropout:
        yield f"Further training is without the dropout of {decoder.stack.dropout:g}, which the class does not have."
