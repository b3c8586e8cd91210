"""A decoder of ours as a class of transformers: Llama, Mistral, Qwen3 or SmolLM3, plain or under its encoding.

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
from poslab.encodings import NoPosition, PositionalEncoding, Positions, PositionSampler, Rotary
from poslab.models import Decoder, Model
from poslab.pretrained.description import describe
from poslab.pretrained.exchanged_classes import under_encoding
from poslab.pretrained.export import Form, NotPlainError
from poslab.pretrained.export.rope_parameters import Rope, channel_order, rope_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ACTS = {
    "embed": "changes the token embeddings",
    "bias": "adds a bias to the logits",
    "pair_bias": "adds a bias to the logits",
    "state": "remembers numbers of each token beside its key and value",
    "logits": "makes the logits itself",
}
"""Effects of hooks that no plain class has, the most telling first."""


def plain_form(model: Model, length: int) -> Form:
    """Return a decoder as a class of transformers that needs no code beside it.

    Args:
        model: the model; its logits become those of the class.
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
    head_dim = decoder.shape.head_dim
    rotary, positioned = _rotary(decoder)
    config, rope = _config(decoder, rotary, positioned, length)
    weights = dict(_weights(decoder, channel_order(rotary, head_dim)))
    notes = (*rope.notes, *_notes(decoder))
    return Form(_class_of(config), config, weights, rope.max_length, notes, rope_type=rope.rope_type)


def form_under_encoding(model: Model, length: int) -> Form:
    """Return a decoder as a class of transformers under its encoding, which needs Poslab; arguments as `plain_form`.

    Raises:
        ValueError: if no class could have it.
    """
    decoder = checked_decoder(model)
    stack, shape = decoder.stack, decoder.shape
    make, given = _plainest(decoder, stack.window)
    rope = Rope({"rope_type": "default", "rope_theta": 10_000.0}, length)
    config = under_encoding(_made(decoder, make, given, rope), describe(decoder.encodings))
    base = "model.poslab_encodings"
    weights = {f"{base}.{name}": weight for name, weight in decoder.encodings.state_dict().items()}
    weights |= _weights(decoder, list(range(shape.head_dim)))
    end = decoder.max_length or length
    return Form(_class_of(config), config, weights, end, tuple(_notes(decoder)), needs_poslab=True)


def checked_decoder(model: Model) -> Decoder:
    """Return the model, if a class of transformers can be like it, under its encoding or plain; ValueError if not."""
    if type(model) is not Decoder:
        raise ValueError(f"model must be a decoder to be exported, got {type(model).__name__}")
    if model.pooling is not None or model.output.out_features != model.vocab_size:
        raise ValueError("model must predict tokens to be exported, and this one has outputs of its own")
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
    places = Positions.range(min(8, max_length or 8))
    sampler = copy.deepcopy(position_sampler).eval()
    if not torch.equal(sampler(places, 1).ids, places.ids):
        raise ValueError(
            f"positions {type(sampler).__name__} moves tokens in evaluation too, which no class of "
            "transformers does: samplers that move them in training alone, such as shifted, can be exported"
        )


def _class_of(config: PretrainedConfig) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM._model_mapping[type(config)]


def _rotary(decoder: Decoder) -> tuple[Rotary | None, list[bool]]:
    """Return the rotary encoding of a stack, None if it has none, and for each layer True if it turns there.

    Raises:
        NotPlainError: for another encoding.
    """
    layers = [decoder.encodings.layer(index) for index in range(decoder.shape.num_layers)]
    found: Rotary | None = None
    for encoding in decoder.encodings:
        if type(encoding) is NoPosition:
            continue
        if type(encoding) is not Rotary:
            raise NotPlainError(f"encoding {type(encoding).__name__} {_effect(encoding)}")
        if found is not None:
            raise NotPlainError("encoding must turn in the same way in all layers of a class, got several rotary ones")
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
        NotPlainError: if there is no such class.
    """
    from transformers import SmolLM3Config

    stack, shape = decoder.stack, decoder.shape
    windows = [_narrower(stack.window, own) for own in decoder.encodings.windows]
    sizes = {window for window in windows if window is not None}
    if len(sizes) > 1:
        raise NotPlainError(f"window must be the same in all layers of a class that have one, got {sorted(sizes)}")
    window = next(iter(sizes), None)
    if window == 1:
        raise NotPlainError("window must be at least 2 in a class, whose cache would show more than one token")
    some_positioned = len(set(positioned)) > 1
    if stack.qk_norm and some_positioned:
        raise NotPlainError("qk_norm must be false in a class with layers without position: none has both")
    make, given = _plainest(decoder, window, windows)
    if not stack.qk_norm and (some_positioned or len(set(windows)) > 1):
        make, given = SmolLM3Config, {**_of_layers(windows), "no_rope_layers": [int(turns) for turns in positioned]}
    config = partial(_made, decoder, make, given)
    rope = rope_of(rotary, shape.head_dim, length, config)
    return config(rope), rope


def _plainest(
    decoder: Decoder, window: int | None, windows: Sequence[int | None] | None = None
) -> tuple[Any, dict[str, Any]]:
    """Return the class of configurations that has the shape of a decoder, and the arguments of its windows.

    `window` is that of layers, and `windows` that of each of them if some have none.
    """
    from transformers import LlamaConfig, MistralConfig, Qwen3Config

    stack, shape = decoder.stack, decoder.shape
    if stack.qk_norm:
        return Qwen3Config, _of_layers(windows or [window] * shape.num_layers)
    if window is not None or shape.d_model % shape.num_heads:  # of which Llama's head_dim must be free too
        return MistralConfig, {"sliding_window": window}
    return LlamaConfig, {}


def _of_layers(windows: Sequence[int | None]) -> dict[str, Any]:
    """Return the arguments of a configuration that names the window of each layer."""
    window = next((window for window in windows if window is not None), None)
    return {
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "layer_types": ["full_attention" if own is None else "sliding_attention" for own in windows],
    }


def _made(decoder: Decoder, make: Any, given: dict[str, Any], rope: Rope) -> PretrainedConfig:
    """Return the configuration of a class that has the shape of a decoder."""
    stack, shape, weight = decoder.stack, decoder.shape, decoder.embedding.weight
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
        attention = decoder.blocks[number].mixer
        assert isinstance(attention, MultiHeadAttention)
        of_queries = attention.of_heads(own[f"{block}.mixer.query.weight"].T[None])
        heads = (of_queries, *attention.keys_and_values(own[f"{block}.mixer.key_value.weight"].T[None]))
        query, key, value = (x_1HMD[0].transpose(1, 2).flatten(0, 1).contiguous() for x_1HMD in heads)
        gate, up = own[f"{block}.mlp.gate_up.weight"].chunk(2)
        yield f"{layer}.input_layernorm.weight", own[f"{block}.mixer_norm.weight"]
        yield f"{layer}.self_attn.q_proj.weight", reordered(query)
        yield f"{layer}.self_attn.k_proj.weight", reordered(key)
        yield f"{layer}.self_attn.v_proj.weight", value
        yield f"{layer}.self_attn.o_proj.weight", own[f"{block}.mixer.output.weight"]
        if decoder.stack.qk_norm:
            yield f"{layer}.self_attn.q_norm.weight", reordered(own[f"{block}.mixer.query_norm.weight"])
            yield f"{layer}.self_attn.k_norm.weight", reordered(own[f"{block}.mixer.key_norm.weight"])
        yield f"{layer}.post_attention_layernorm.weight", own[f"{block}.mlp_norm.weight"]
        yield f"{layer}.mlp.gate_proj.weight", gate
        yield f"{layer}.mlp.up_proj.weight", up
        yield f"{layer}.mlp.down_proj.weight", own[f"{block}.mlp.output.weight"]


def _notes(decoder: Decoder) -> Iterator[str]:
    """Yield what differs in training."""
    if decoder.stack.dropout:
        yield f"Further training is without the dropout of {decoder.stack.dropout:g}, which the class does not have."
