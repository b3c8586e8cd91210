"""Contradictions in a description of positions, and limits at the length asked; each with its source."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from poslab.pretrained.inspection.layers import Layer
from poslab.pretrained.inspection.sources import Description
from poslab.pretrained.inspection.spectrum import SCALINGS, Rope, first_violation, number

VLLM, OMLX, SGLANG = "vllm-project/vllm#56446", "jundot/omlx#3347", "sgl-project/sglang#31232"
NESTED, BRIDGE = "vllm-project/vllm#28542", "NVIDIA-NeMo/Megatron-Bridge#4195"
TITAN, QWEN, OLMO = "pytorch/torchtitan#4117", "huggingface/transformers#38224", "allenai/OLMo-core#366"
BOUND, TURNS = "Men et al. 2024, arXiv 2405.14591", "Peng et al. 2023, arXiv 2309.00071"
FLOATS = "Liu 2026, arXiv 2602.10959; spacing of floats"

WARNINGS = {
    "type_without_rope_type": ("type={} without rope_type: programs that look for rope_type read no scaling", OMLX),
    "vendor_rope_type": ("rope_type={} is a vendor's name: programs differ in its lengths and attention factor", VLLM),
    "field_not_read": ("{} is not read by {}, so that it changes nothing, without a message", OMLX),
    "share_not_read": ("partial_rotary_factor={} is not read by {} for rope_type=default: all channels rotate", BRIDGE),
    "mscale_without_other": ("mscale={}, mscale_all_dim={}: one needs the other, and 0.1 ln s + 1 is taken", SGLANG),
    "mscale_ignored": ("attention_factor={} overrides mscale and mscale_all_dim", SGLANG),
    "one_base_for_all_layers": ("rope_theta={} is given once, and {} has a base for each kind of layer: {}", NESTED),
    "betas_swapped": ("beta_fast={} is not above beta_slow={}: they are swapped", "pytorch/torchtitan#3787"),
    "length_multiplied_twice": (
        "without original_max_position_embeddings, {:,} is taken for it and becomes {:,}",
        VLLM,
    ),
    "original_equals_maximum": (
        "the original length is max_position_embeddings={:,}: some do not scale by {:g}",
        TITAN,
    ),
    "factor_contradicts_lengths": ("factor={:g}, but max_position_embeddings={:,} is {:g} times {:,}", QWEN),
    "yarn_in_sliding_layers": ("YaRN stretches layers that see only {} tokens, where no distance is new", OLMO),
    "odd_rotary_width": ("{} channels would rotate: the last has no partner", "huggingface/transformers#48524"),
    "base_below_bound": ("{} at {:,} tokens: from distance {:,} on, a key like the query scores below others", BOUND),
    "new_angles": ("{}: {} of {} pairs rotate less than once in {:,} tokens, and meet new angles up to {:,}", TURNS),
    "precision_float32": ("float32 angles at {:,} tokens, base {:,.0f}: wrong by up to {:.2g} radians{}", FLOATS),
}
NOTES = {
    "remote_code": ("auto_map names code of its author, which was neither run nor read", "trust_remote_code"),
    "base_only_nested": ("programs for transformers 4 take the base 10,000, not the base in rope_parameters", NESTED),
    "mscale": ("attention factor {:.4g} by mscale and mscale_all_dim; programs without them take {:.4g}", SGLANG),
    "unseen_wavelengths": ("{}: {} of {} pairs rotate less than once within the {:,} tokens of training", TURNS),
    "precision_bfloat16": ("bfloat16 angles at {:,} tokens, base {:,.0f}: wrong by up to {:.2g} radians{}", FLOATS),
    "precision_float16": ("float16 angles at {:,} tokens, base {:,.0f}: wrong by up to {:.2g} radians{}", FLOATS),
}
"""Messages and sources by code. Notes are correct, or true of most models, and commonly read wrongly."""

BITS = {"bfloat16": 8, "float16": 11, "float32": 24}  # significant bits of types of numbers
MAX_BOUND = 2**20  # longest text whose base bound is computed, in half a second

_LENGTHS, _FACTORS = ("factor", "original_max_position_embeddings"), ("attention_factor",)
FIELDS: Mapping[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "dynamic": ("factor", "alpha"),
    "yarn": (*_LENGTHS, *_FACTORS, "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
    "longrope": (*_LENGTHS, *_FACTORS, "short_factor", "long_factor"),
    "llama3": (*_LENGTHS, "low_freq_factor", "high_freq_factor"),
    "proportional": ("factor",),
}
"""Fields of a rope block that each type reads, besides those that all do."""

ROPE_KEYS = ("rope_parameters", "rope_scaling")
READ_BY_ALL = {*ROPE_KEYS, *("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")}
READ_BY_ALL |= {"rope_type", "type"}
READ_BY_SOME = {"mrope_section", "mrope_interleaved", "rope_local_base_freq", "global_rope_theta", "local_rope_theta"}
"""Fields of positions that every configuration of transformers takes, and older names that some take."""

OF_POSITIONS = re.compile(r"rope|rotary|position|sliding|window|chunk|alibi|yarn|theta|mscale|attn_temperature")

Case = tuple[Any, ...]  # a code and what its message names


@dataclass(frozen=True)
class Finding:
    """A contradiction or a limit: its code, `warning` or `note`, one sentence with the reason, and a source of it."""

    code: str
    level: str
    message: str
    source: str


def findings_of(description: Description, layers: Sequence[Layer], context: int) -> list[Finding]:
    """Return what is to be said of a model at a length of the text, each once, warnings first."""
    cases = [*_of_blocks(description), *_of_fields(description)]
    for layer in layers:
        if layer.rope is not None:
            cases += [*_of_rope(description, layer, layer.rope), *_of_length(layer, layer.rope, context)]
    cases += _of_precision(max((layer.rope.base for layer in layers if layer.rope), default=0.0), context)
    findings = []
    for code, *values in dict.fromkeys(cases):
        message, source = (WARNINGS | NOTES)[code]
        findings.append(Finding(code, "warning" if code in WARNINGS else "note", message.format(*values), source))
    return sorted(findings, key=lambda finding: finding.level, reverse=True)


def _blocks(description: Description) -> list[Mapping[str, Any]]:
    """Return the rope blocks that are written, one for each kind of layers."""
    blocks = [block for key in ROPE_KEYS if isinstance(block := description.written.get(key), Mapping)]
    nested = [value for block in blocks for value in block.values() if isinstance(value, Mapping)]
    return nested or blocks


def _of_blocks(description: Description) -> Iterator[Case]:
    for block in [] if description.tensors else _blocks(description):
        name = str(block.get("rope_type", block.get("type", "default")))
        if "type" in block and "rope_type" not in block:
            yield "type_without_rope_type", name
        if name not in (*SCALINGS, "mrope"):
            yield "vendor_rope_type", name
        read = READ_BY_ALL | READ_BY_SOME | {*FIELDS.get(name, ())} if name in SCALINGS else {*block}
        read |= {*getattr(description.config, "ignore_keys_at_rope_validation", ())}
        yield from (("field_not_read", key, f"rope_type={name}") for key in sorted({*block} - read))
        mscale, of_all = block.get("mscale"), block.get("mscale_all_dim")
        if bool(mscale) != bool(of_all):
            yield "mscale_without_other", str(mscale), str(of_all)
        if mscale and of_all and block.get("attention_factor") is not None:
            yield "mscale_ignored", str(block["attention_factor"])


def _of_fields(description: Description) -> Iterator[Case]:
    written, config, code = description.written, description.config, description.code
    if "auto_map" in written:
        yield ("remote_code",)
    if code is None or not written:
        return
    defaults = type(config)()
    known = {*vars(defaults), *getattr(defaults, "attribute_map", ())} | READ_BY_ALL | READ_BY_SOME
    for key in sorted({*written} - known):
        is_read = hasattr(type(config), key) or key in code.text
        if OF_POSITIONS.search(key) and written[key] is not None and not is_read:
            yield "field_not_read", key, type(config).__name__
    nested = [
        block for block in (getattr(defaults, "rope_parameters", None) or {}).values() if isinstance(block, Mapping)
    ]
    given = READ_BY_SOME | {*ROPE_KEYS}
    if len({block.get("rope_theta") for block in nested}) > 1 and "rope_theta" in written and not given & {*written}:
        blocks = config.rope_parameters.items()
        bases = [f"{key} {block['rope_theta']:,.0f}" for key, block in blocks if isinstance(block, Mapping)]
        yield "one_base_for_all_layers", str(written["rope_theta"]), type(config).__name__, ", ".join(bases)
    if "rope_parameters" in written and not ({"rope_theta", "rope_scaling"} | READ_BY_SOME) & {*written}:
        yield ("base_only_nested",)


def _of_rope(description: Description, layer: Layer, rope: Rope) -> Iterator[Case]:
    """Yield contradictions within the rotation of a layer."""
    block, longest, original, factor = rope.block, rope.max_length, rope.original_length, rope.factor
    is_yarn, is_written = rope.type == "yarn", bool(description.written)
    if is_yarn and (fast := number(block, "beta_fast", 32)) <= (slow := number(block, "beta_slow", 1)):
        yield "betas_swapped", fast, slow
    if rope.type in ("yarn", "longrope", "llama3") and factor > 1 and is_written:
        parts = [description.written, *_blocks(description)]
        if not any("original_max_position_embeddings" in part for part in parts):
            yield "length_multiplied_twice", longest, round(longest * factor)
        elif original == longest:
            yield "original_equals_maximum", longest, factor
        elif abs(original * factor / longest - 1) > 0.01 and rope.type != "llama3":
            yield "factor_contradicts_lengths", factor, longest, longest / original, original
    if is_yarn and layer.window and factor > 1:
        yield "yarn_in_sliding_layers", layer.window
    if is_yarn and block.get("mscale") and block.get("mscale_all_dim") and is_written:
        yield "mscale", rope.attention_factor, 0.1 * math.log(max(factor, 1)) + 1
    if rope.rotary_dim % 2:
        yield "odd_rotary_width", rope.rotary_dim
    share = block.get("partial_rotary_factor")
    if share not in (None, 1) and rope.type == "default" and rope.rotary_dim == rope.head_dim:
        yield "share_not_read", str(share), type(description.config).__name__


def _of_length(layer: Layer, rope: Rope, context: int) -> Iterator[Case]:
    """Yield what does not hold for texts of a length."""
    window = layer.window or context
    distances, trained = min(context, window), min(rope.original_length, window)
    spectrum, where = rope.frequencies(context), f"{layer.attention} layers with base {rope.base:,.0f}"
    whole = np.append(spectrum, np.zeros(max(0, rope.head_dim // 2 - len(spectrum))))  # channels at rest add 1 each
    if distances <= MAX_BOUND and (violation := first_violation(whole, distances)) is not None:
        yield "base_below_bound", where, distances, violation
    seen = rope.plain[: len(spectrum)] * trained
    unseen = (spectrum > 0) & (seen < 2 * math.pi)
    if new := int((unseen & (spectrum * distances > 1.001 * seen)).sum()):
        yield "new_angles", where, new, len(spectrum), trained, distances
    elif unseen.any():
        yield "unseen_wavelengths", where, int(unseen.sum()), len(spectrum), trained


def _of_precision(base: float, context: int) -> Iterator[Case]:
    """Yield the types in which angles fail: by half the spacing of floats at the last position, or by the base."""
    for name, bits in BITS.items() if base else ():
        error, limit = 2.0 ** (math.ceil(math.log2(max(context, 2))) - bits - 1), 2.0 ** (bits - 1)
        details = [", and positions above 65,504 overflow"] if name == "float16" and context > 65_504 else []
        details += [f", and steps of the slowest pair vanish above base {limit:,.0f}"] if base > limit else []
        if error > 0.1 or (base > limit and name == "float32"):
            yield f"precision_{name}", context, base, error, "".join(details)
