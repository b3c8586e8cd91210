"""A Poslab decoder as a class of transformers: Llama, Mistral, Qwen3 or SmolLM3, plain or under its encoding.

Dimension letters: D head dim, M model dim.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from poslab.attention import MultiHeadAttention
from poslab.encodings import Positions, PositionSampler
from poslab.models import Decoder, Model
from poslab.pretrained.borrow import MODULE, describe
from poslab.pretrained.exchanged_classes import under_encoding
from poslab.pretrained.export import Form, NotPlainError
from poslab.pretrained.export.rope_parameters import Rope, channel_order, rope_of, rotation_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def plain_form(model: Model, length: int) -> Form:
    """Return a decoder as a class of transformers that needs no remote code.

    Args:
        model: the model; the class has the same logits.
        length: training length, in tokens.

    Raises:
        NotPlainError: if no class has such a model.
        ValueError: if no class could have it, with Poslab either.
    """
    decoder = checked_decoder(model)
    for temperature in decoder.encodings.temperatures.values():
        name = type(temperature).__name__
        raise NotPlainError(
            f"temperature {name} multiplies the logits by the number of visible keys, which no class of transformers "
            "does"
        )
    if any(decoder.encodings.chunks):
        raise NotPlainError("encoding has chunks, which no class of transformers with this decoder has")
    rotary, rotates = rotation_of(decoder.encodings)
    widths = ((decoder.stack.window, width) for width in decoder.encodings.windows)
    windows = [min((width for width in pair if width is not None), default=None) for pair in widths]
    if len(sizes := {window for window in windows if window is not None}) > 1:
        raise NotPlainError(f"window must be the same in all layers of a class that have one, got {sorted(sizes)}")
    if sizes == {1}:
        raise NotPlainError("window must be at least 2 in a class, whose cache would show more than one token")
    if decoder.stack.qk_norm and len(set(rotates)) > 1:
        raise NotPlainError("qk_norm must be false in a class with layers without position: none has both")
    config_with = partial(_config, decoder, windows, rotates)
    rope = rope_of(rotary, decoder.shape.head_dim, length, config_with)
    config = config_with(rope)
    weights = dict(_weights(decoder, channel_order(rotary, decoder.shape.head_dim)))
    notes = (*rope.notes, *_notes(decoder))
    return Form(_class_of(config), config, weights, rope.max_length, notes, rope_type=rope.rope_type)


def form_under_encoding(model: Model, length: int) -> Form:
    """Return a decoder as a class of transformers under its encoding, which needs Poslab; arguments as `plain_form`.

    ValueError if no class could have it.
    """
    decoder = checked_decoder(model)
    layers = decoder.shape.num_layers
    rope = Rope({"rope_type": "default", "rope_theta": 10_000.0}, length)
    plain = _config(decoder, [decoder.stack.window] * layers, [True] * layers, rope)
    config = under_encoding(plain, describe(decoder.encodings))
    weights = {f"model.{MODULE}.{name}": weight for name, weight in decoder.encodings.state_dict().items()}
    weights |= _weights(decoder, list(range(decoder.shape.head_dim)))
    end = decoder.max_length or length
    return Form(_class_of(config), config, weights, end, tuple(_notes(decoder)), needs_poslab=True)


def checked_decoder(model: Model) -> Decoder:
    """Return the model, if a class of transformers can be like it, under its encoding or plain; ValueError if not."""
    if type(model) is not Decoder:
        raise ValueError(f"model must be a decoder to be exported, got {type(model).__name__}")
    if model.pooling is not None or model.output.out_features != model.vocab_size:
        raise ValueError("model must predict tokens to be exported, and this one has other outputs")
    if len(model.encodings.sinks):
        raise ValueError("sinks must be null to be exported: no class of transformers with this decoder has them")
    if model.is_recurrent:
        raise ValueError(
            "canon and mixers must be null to be exported: no class of transformers with this decoder has them"
        )
    if model.stack.window == 1:
        raise ValueError(
            "window must be at least 2 to be exported: the cache of transformers would show more than that"
        )
    if model.shape.head_dim % 2:
        raise ValueError(f"head_dim must be even to be exported, got {model.shape.head_dim}")
    check_sampler(model.position_sampler, model.max_length)
    return model


def check_sampler(position_sampler: PositionSampler | None, max_length: int | None) -> None:
    """Raise ValueError for a sampler of positions that moves tokens in evaluation too."""
    if position_sampler is None:
        return
    positions = Positions.range(min(8, max_length or 8))
    sampler = copy.deepcopy(position_sampler).eval()
    if not torch.equal(sampler(positions, 1).ids, positions.ids):
        raise ValueError(
            f"positions {type(sampler).__name__} moves tokens in evaluation too, which no class of "
            "transformers does: samplers that move them only in training, such as shifted, can be exported"
        )


def _class_of(config: PretrainedConfig) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM._model_mapping[type(config)]


def _config(decoder: Decoder, windows: Sequence[int | None], rotates: Sequence[bool], rope: Rope) -> PretrainedConfig:
    """Return the configuration of the plainest class with the shape, windows and rotating layers of a decoder."""
    from transformers import LlamaConfig, MistralConfig, Qwen3Config, SmolLM3Config

    stack, shape, weight = decoder.stack, decoder.shape, decoder.embedding.weight
    window = next((window for window in windows if window is not None), None)
    of_layers: dict[str, Any] = {
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "layer_types": ["full_attention" if width is None else "sliding_attention" for width in windows],
    }
    make: Any
    if stack.qk_norm:
        make, given = Qwen3Config, of_layers
    elif len(set(rotates)) > 1 or len(set(windows)) > 1:
        make, given = SmolLM3Config, of_layers | {"no_rope_layers": list(map(int, rotates))}
    elif window is not None or shape.d_model % shape.num_heads:  # of which Llama's head_dim must be free too
        make, given = MistralConfig, {"sliding_window": window}
    else:
        make, given = LlamaConfig, {}
    config: PretrainedConfig = make(
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
    return config


def _weights(decoder: Decoder, order: list[int]) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of transformers by name, with the channels of queries and keys in its order."""

    def reordered(rows: Tensor) -> Tensor:
        """Return the rows of projections to heads, (H * D, M), or of a norm, (D,), in the order of transformers."""
        return rows.unflatten(0, (-1, len(order)))[:, order].flatten(0, 1)

    state: dict[str, Tensor] = decoder.state_dict()
    yield "model.embed_tokens.weight", state["embedding.weight"]
    yield "model.norm.weight", state["norm.weight"]
    yield "lm_head.weight", state["output.weight"]
    for number in range(decoder.shape.num_layers):
        block, layer = f"blocks.{number}", f"model.layers.{number}"
        attention = decoder.blocks[number].mixer
        assert isinstance(attention, MultiHeadAttention)
        of_queries = attention.of_heads(state[f"{block}.mixer.query.weight"].T[None])
        heads = (of_queries, *attention.keys_and_values(state[f"{block}.mixer.key_value.weight"].T[None]))
        query, key, value = (x_1HMD[0].transpose(1, 2).flatten(0, 1).contiguous() for x_1HMD in heads)
        gate, up = state[f"{block}.mlp.gate_up.weight"].chunk(2)
        yield f"{layer}.input_layernorm.weight", state[f"{block}.mixer_norm.weight"]
        yield f"{layer}.self_attn.q_proj.weight", reordered(query)
        yield f"{layer}.self_attn.k_proj.weight", reordered(key)
        yield f"{layer}.self_attn.v_proj.weight", value
        yield f"{layer}.self_attn.o_proj.weight", state[f"{block}.mixer.output.weight"]
        if decoder.stack.qk_norm:
            yield f"{layer}.self_attn.q_norm.weight", reordered(state[f"{block}.mixer.query_norm.weight"])
            yield f"{layer}.self_attn.k_norm.weight", reordered(state[f"{block}.mixer.key_norm.weight"])
        yield f"{layer}.post_attention_layernorm.weight", state[f"{block}.mlp_norm.weight"]
        yield f"{layer}.mlp.gate_proj.weight", gate
        yield f"{layer}.mlp.up_proj.weight", up
        yield f"{layer}.mlp.down_proj.weight", state[f"{block}.mlp.output.weight"]


def _notes(decoder: Decoder) -> Iterator[str]:
    """Yield what differs in training."""
    if decoder.stack.dropout:
        yield f"Further training is without the dropout of {decoder.stack.dropout:g}, which the class does not have."
