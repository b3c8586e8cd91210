"""Use of positions in each layer of a described model."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from poslab.io.gguf import PAIRING, WITHOUT_ROTATION
from poslab.pretrained.inspection.sources import Description
from poslab.pretrained.inspection.spectrum import Rope, number

KINDS = {"full_attention": "full", "attention": "full", "sliding_attention": "sliding", "local": "sliding"}
KINDS |= {"chunked_attention": "chunked", "linear_attention": "linear", "mamba": "recurrent", "conv": "convolution"}
"""Kinds of attention by the words of `layer_types`; other words are shown as they are."""

MAX_KINDS, MAX_CHANNELS = 32, 2**16
"""Most kinds of layers and channels of a head: more than any model has, and few enough to be computed in seconds."""

WITHOUT_ATTENTION = ("linear", "recurrent", "convolution", "moe")

# Names of sizes and of the base in different classes.
NUM_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "encoder_attention_heads")
WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")
LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "n_ctx")
BASES = ("rope_theta", "rotary_emb_base", "rope_base")

LEARNED = re.compile(r"self\.(?:position_embeddings?|embed_positions|wpe|pos\w*) = (?:nn\.Embedding|\w*Learned\w*)\(")
"""Code that makes rows of positions."""


@dataclass(frozen=True)
class Layer:
    """The positions of a layer."""

    attention: str  # its kind: full, sliding, chunked, linear, recurrent, ...
    window: int | None = None  # tokens that a token sees in a sliding window or a chunk; None without one
    is_latent: bool = False  # True for multi-head latent attention (MLA)
    has_sinks: bool | None = False  # True if heads have a learned logit of no token; None if that is not known
    softcap: float | None = None  # bound of the logits; None without one
    rope: Rope | None = None  # its rotation; None if it does not rotate
    rotation: str = "none"  # in words, why there is none: `none`, or what is unknown
    others: tuple[str, ...] = ()  # other positions, in words: learned rows, biases
    with_length: tuple[str, ...] = ()  # what changes with the length of the text or the position, in words


def layers_of(description: Description) -> list[Layer]:
    """Return the layers of a model; ValueError for sizes and numbers that are none."""
    others = tuple(_others(description))
    return [_layer(description, n, kind, others) for n, kind in enumerate(_kinds(description))]


def max_length(description: Description) -> int:
    """Return `max_position_embeddings`; 2,048 where a class has no such limit."""
    return description.count(*LENGTHS, default=2048)


def _kinds(description: Description) -> list[str]:
    count, code = description.count(*NUM_LAYERS, most=1000), description.code
    for name in ("layer_types", "layers_block_type", "block_types", "attention_layers"):
        types = description.get(name)
        if isinstance(types, list) and types and all(isinstance(kind, str) for kind in types):
            if len({*types}) > MAX_KINDS:
                raise ValueError(f"{description.origin}: {name} must have at most {MAX_KINDS} kinds of layers")
            kinds = [str(KINDS.get(kind) or kind) for kind in types]
            return [kinds[n % len(kinds)] for n in range(count)]
    if code is not None and not code.attention:
        return ["recurrent"] * count
    slides = description.get("sliding_window") and description.get("use_sliding_window", True)
    return ["sliding" if slides and (code is None or "sliding_window" in code.text) else "full"] * count


def _layer(description: Description, n: int, kind: str, others: tuple[str, ...]) -> Layer:
    if kind in WITHOUT_ATTENTION:
        return Layer(kind)
    code, get = description.code, description.get
    sizes = {"sliding": ("sliding_window", "window_size", "sliding_window_size"), "chunked": ("attention_chunk_size",)}
    is_sized = any(get(key, layer=n) is not None for key in sizes.get(kind, ()))
    softcap = get("attn_logit_softcapping") if code is None or "softcap" in code.attention else None
    rope, rotation = _rotation(description, n, kind)
    return Layer(
        attention=kind,
        window=description.count(*sizes[kind], layer=n) if is_sized else None,
        is_latent=get("kv_lora_rank", layer=n) is not None and (code is None or "kv_lora_rank" in code.attention),
        has_sinks=code.has_sinks if code else any("sinks" in name for name in description.tensors) or None,
        softcap=number({"attn_logit_softcapping": softcap}, "attn_logit_softcapping") if softcap else None,
        rope=rope,
        rotation=rotation,
        others=others,
        with_length=tuple(_with_length(description, rope)),
    )


def _rotation(description: Description, n: int, kind: str) -> tuple[Rope | None, str]:
    """Return the rotation of a layer, or why it has none."""
    code, architecture, block = description.code, str(description.get("model_type")), block_of(description, kind)
    config = description.config.per_layer_config[n] if description.get("is_heterogeneous") else description.config
    rotates = code.rotates(config, n, kind == "sliding") if code else architecture not in WITHOUT_ROTATION.split()
    if rotates is None:
        return None, "unknown: a condition in the code of the class decides"
    if not rotates or block is None:
        return None, "none" if not rotates or description.get("rope_parameters") else "unknown: there is no base"
    pairing = code.pairing(config) if code else PAIRING.get(architecture) if description.tensors else None
    return rope_of(description, block, n, pairing), ""


def rope_of(description: Description, block: Mapping[str, Any], n: int | None, pairing: str | None) -> Rope:
    """Return the rotation of a layer under a complete rope block; ValueError for sizes that are none."""
    if (head_dim := description.get("head_dim", layer=n)) is None:
        head_dim = description.count(*WIDTHS) // description.count(*HEADS, layer=n)
    head_dim = description.count("head_dim", layer=n, default=head_dim, most=MAX_CHANNELS)
    is_default = block.get("rope_type") == "default"
    reads_width = description.code is None or "config.rotary_dim" in description.code.text
    r = description.count("rotary_dim", default=head_dim, most=head_dim) if reads_width else head_dim
    is_read = not is_default or description.code is None or description.code.reads_share()
    if block.get("partial_rotary_factor") is not None and block.get("rope_type") != "proportional" and is_read:
        r = int(head_dim * number(block, "partial_rotary_factor"))
    if not 2 <= r <= head_dim:
        raise ValueError(f"{description.origin}: at least 2 of {head_dim} channels must rotate, got {r}")
    is_latent = all(description.get(key, layer=n) is not None for key in ("kv_lora_rank", "qk_nope_head_dim"))
    first = description.count("qk_nope_head_dim", layer=n, most=MAX_CHANNELS) if is_latent else 0
    return Rope(block, max(head_dim, first + r), first, r, pairing, max_length(description))


def block_of(description: Description, kind: str) -> dict[str, Any] | None:
    """Return the complete rope block of a kind of layers; None for one that does not rotate."""
    block = description.get("rope_parameters", description.get("rope_scaling")) or {}
    if not isinstance(block, Mapping):
        raise ValueError(f"{description.origin}: rope_parameters must be an object, got {type(block).__name__}")
    if nested := [value for value in block.values() if isinstance(value, Mapping)]:
        named = {KINDS.get(key, key): value for key, value in block.items()}.get(kind, nested[0])
        truncate = {"truncate": block.get("truncate", True)}  # transformers reads it at the top
        return None if named is None else {**named, **(truncate if named.get("rope_type") == "yarn" else {})}
    base = next((value for name in BASES if (value := description.get(name)) is not None), None)
    if base is None and not block and description.code and re.search(r"\b10_?000\b", description.code.text):
        base = 10_000.0
    complete = {"rope_type": block.get("type", "default"), "rope_theta": base, **block}
    return None if complete["rope_theta"] is None else complete


def _others(description: Description) -> Iterator[str]:
    """Yield positions other than a rotation, in words."""
    text, get = description.code.text if description.code else "", description.get
    if "alibi" in text.lower() and get("alibi", True):
        yield "ALiBi: a bias of -slope times distance in each head"
    if "relative_attention_bias" in text and (buckets := get("relative_attention_num_buckets")):
        longest = get("relative_attention_max_distance", 128)
        yield f"T5: a learned bias for each of {buckets} buckets of distance, up to {longest} tokens"
    if "rel_embeddings" in text and get("relative_attention"):
        yield "DeBERTa: learned vectors of distances, disentangled from contents"
    is_absolute = get("position_embedding_type", "absolute") == "absolute" and get("position_biased_input", True)
    if LEARNED.search(text) and is_absolute:
        before = get("pad_token_id", 0) + 1 if "create_position_ids_from_input_ids" in text else 0  # as in RoBERTa
        yield f"learned rows: a vector for each of {max_length(description) - before:,} positions, added to embeddings"
    elif re.search(r"Sinusoidal\w*(Embedding|Encoding)", text) and description.code and not description.code.rotation:
        yield "sinusoids, added to embeddings"


def _with_length(description: Description, rope: Rope | None) -> Iterator[str]:
    """Yield what changes with the length of the text or with the position, in words."""
    attention, get = description.code.attention if description.code else "", description.get
    if rope is None and "attn_temperature_tuning" in attention and get("attn_temperature_tuning"):
        yield f"queries times 1 + {get('attn_scale')} ln(1 + floor((p + 1) / {get('floor_scale')})) at position p"
    if rope is not None and rope.type == "dynamic" and not rope.block.get("alpha"):
        yield f"dynamic NTK: the base grows for texts beyond {rope.max_length:,} tokens"
    if rope is not None and rope.type == "longrope":
        yield f"longrope: other divisors for texts beyond {rope.original_length:,} tokens"
    if rope is not None and (beta := rope.block.get("llama_4_scaling_beta")):
        yield f"queries times 1 + {beta} ln(1 + floor(p / {rope.original_length})) at position p"


def logit_factor(description: Description, rope: Rope) -> float:
    """Return the further factor on logits by which latent attention answers `mscale_all_dim`; 1 without one."""
    if not rope.block.get("mscale_all_dim") or description.code is None or "mscale" not in description.code.text:
        return 1.0
    return (0.1 * number(rope.block, "mscale_all_dim") * math.log(max(rope.factor, 1)) + 1) ** 2
