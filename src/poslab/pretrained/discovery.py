"""Parts of a class of transformers that replacing its positions needs, found in a tiny model of the class.

A tiny model has the configuration of a model with few layers (each kind at least once), heads and channels.

Dimension letters: B batch, H heads, G key-value heads, T tokens, D head dim.
"""

from __future__ import annotations

import inspect
import itertools
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from poslab.encodings.rotary.rotation import rotate_half_split, rotate_interleaved
from poslab.pretrained.exchange import ROTATION, without_angles
from poslab.pretrained.families import FAMILIES, Family, declared, kinds_of, part, rotation, with_rotated_first

LENGTH, VOCABULARY, ROWS = 24, 96, 64
"""Tokens of a text for a tiny model, of its vocabulary, and positions of learned rows."""

SIZES = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim"), 64),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "hidden_dim"), 96),
    **dict.fromkeys(("mlp_hidden_size", "shared_intermediate_size", "block_ff_dim", "intermediate_size_mlp"), 96),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("head_dim", "global_head_dim", "v_head_dim", "query_pre_attn_scalar", "embedding_size"), 16),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk", "num_experts_per_token"), 2),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 32),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts"), 1),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "qk_head_dim", "linear_key_head_dim", "linear_value_head_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "rotary_dim", "mamba_d_state"), 8),
    **dict.fromkeys(("hidden_size_per_layer_input", "sliding_window", "attention_chunk_size", "local_attention"), 8),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(("pad_token_id",), 0),
    **dict.fromkeys(("bos_token_id",), 1),
    **dict.fromkeys(("eos_token_id",), 2),
}
"""Values of a tiny model, for the keys that a configuration has."""

MAX_KINDS, MAX_PARAMETERS = 16, 30_000_000
"""Most kinds of layers of a tiny model, and most of its parameters: a configuration may have sizes of other names."""

NOT_COPIED = ("dtype", "torch_dtype", "quantization_config", "architectures", "auto_map", "transformers_version")


def tiny_config(config: Any) -> Any:
    """Return the configuration of a tiny model with the same kinds of layers and the same positions.

    ValueError if the class does not take its sizes.
    """
    try:
        return type(config).from_dict(_tiny_values(config))
    except Exception as error:
        raise ValueError(f"a tiny configuration is not accepted: {first_words(error)}") from error


def _tiny_values(config: Any) -> dict[str, Any]:
    """Return the keys of a tiny configuration; errors come from its class."""
    values: dict[str, Any] = {key: value for key, value in config.to_dict().items() if key not in NOT_COPIED}
    values, layers = deepcopy(values), config.num_hidden_layers
    per_layer = sorted(key for key, value in values.items() if isinstance(value, list) and len(value) == layers)
    numbers = [key for key in per_layer if values[key] == [*range(layers)]]  # of layers, such as those with experts
    kinds = [repr([values[key][i] for key in per_layer if key not in numbers]) for i in range(layers)]
    kept = sorted({kinds.index(kind) for kind in kinds} | {*range(min(2, layers))})
    if len(kept) > MAX_KINDS:
        raise ValueError(f"its layers are of {len(kept)} kinds, more than {MAX_KINDS}")
    values |= {key: [*range(len(kept))] if key in numbers else [values[key][i] for i in kept] for key in per_layer}
    heads, groups = config.num_attention_heads, declared(config, "num_key_value_heads")
    for key, size in SIZES.items():
        if key.endswith("token_id") or (type(values.get(key)) is int and values[key] > 0):
            values[key] = size
    if declared(config, "qk_rope_head_dim") and config.head_dim == config.qk_rope_head_dim:
        values["head_dim"] = SIZES["qk_rope_head_dim"]
    if groups:
        values["num_key_value_heads"] = {heads: 4, 1: 1}.get(groups, 2)
    if declared(config, "rope_parameters") is None and declared(config, "max_position_embeddings"):
        values[config.attribute_map.get("max_position_embeddings", "max_position_embeddings")] = ROWS
    names = {config.attribute_map.get("num_hidden_layers", "num_hidden_layers"), "decoder_layers"}
    values |= {name: len(kept) for name in names if name in values}
    return values


def tiny_model(config: Any, dtype: torch.dtype) -> Any:
    """Return a tiny model in evaluation mode, always with the same weights, at which attention is not uniform."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    auto_class = AutoModelForCausalLM if type(config) in AutoModelForCausalLM._model_mapping else AutoModelForMaskedLM
    with torch.device("meta"):
        parameters = sum(x.numel() for x in auto_class.from_config(config, attn_implementation="eager").parameters())
    if parameters > MAX_PARAMETERS:
        raise ValueError(f"it would have {parameters:,} parameters, more than {MAX_PARAMETERS:,}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = auto_class.from_config(config, attn_implementation="eager").to(dtype).eval()
        for parameter in model.parameters():
            parameter.data = torch.nan_to_num(parameter.data).clamp(-1, 1) + 0.2 * torch.randn_like(parameter)
    return model


def tiny_text() -> Tensor:
    """Return the tokens of two texts, always the same."""
    return torch.randint(3, VOCABULARY, (2, LENGTH), generator=torch.Generator().manual_seed(1))


def first_words(error: Exception) -> str:
    """Return the first words of an error of transformers, with its class."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def candidates(tiny: Any) -> Iterator[Family]:
    """Yield what may describe a class, by the modules of a tiny model of it.

    ValueError in one sentence, for a class that cannot be described.
    """
    if (listed := FAMILIES.get(tiny.config.model_type)) is not None:
        yield listed
        return
    names = [name for name, module in tiny.named_modules() if calls_attention(module)]
    places: Counter[tuple[str, str]] = Counter()
    for name in names:
        words = name.split(".")
        numbers = [i for i, word in enumerate(words) if word.isdigit()]
        if len(numbers) != 1:
            raise ValueError(f"the attention {name} is not in one list of layers")
        place = (".".join(words[: numbers[0]]), ".".join(words[numbers[0] + 1 :]))
        if "encoder_attn" not in place[1] and "crossattention" not in place[1]:  # of what no text has
            places[place] += 1
    if not places:
        raise ValueError("no layer looks up its attention function by name (ALL_ATTENTION_FUNCTIONS)")
    if len(places) > 1:
        raise ValueError(f"attention is in several places: {', '.join('.*.'.join(place) for place in places)}")
    ((layers, attention),) = places
    base = layers.rpartition(".")[0]
    while "input_ids" not in inspect.signature(tiny.get_submodule(base).forward).parameters:
        base = base.rpartition(".")[0]
    within, base = base, base.removeprefix(tiny.base_model_prefix).removeprefix(".")
    layers = layers.removeprefix(f"{within}.")
    modules = [tiny.get_submodule(name) for name in names if name.endswith(f".{attention}")]
    causal = {bool(getattr(module, "is_causal", True)) for module in modules}
    if len(causal) > 1:
        raise ValueError("some layers are causal and others are not")
    family = Family(layers=layers, attention=attention, head=["lm_head"], causal=causal.pop(), base=base)
    parts = dict(tiny.get_submodule(within).named_modules())
    if all(ROTATION in inspect.signature(type(module).forward).parameters for module in modules):
        if getattr(tiny.config, "rope_parameters", None) is None:
            raise ValueError("its configuration has no rope_parameters")
        of_rotation = (name for name, module in parts.items() if type(module).__name__.endswith("RotaryEmbedding"))
        rotated = with_rotation(replace(family, rotary=next(of_rotation, "")), tiny)
        yield from (replace(rotated, past_window=past) for past in (0, 1))
        return
    tables = {name for name, module in parts.items() if isinstance(module, nn.Embedding)}
    rows = [name for name in tables if "pos" in name.rpartition(".")[2] or name.endswith("wpe")]
    if len(rows) > 1 or len(tables) > 3:
        raise ValueError("positions are neither a rotation that attention is given nor one table of learned rows")
    if not rows:
        yield family
    for before, counts in ((0, False), (None, True), (2, False)) if rows else ():
        yield replace(family, rows=rows[0], rows_before=before, ids_count_rows=counts)


def calls_attention(module: nn.Module) -> bool:
    """Return True for a module whose forward pass calls an attention function that transformers looks up by name."""
    try:
        source = inspect.getsource(type(module).forward)
    except (OSError, TypeError):
        return False
    return "ALL_ATTENTION_FUNCTIONS" in source or "attention_interface(" in source


def with_rotation(family: Family, tiny: Any) -> Family:
    """Return a family with the layout of its pairs and the kinds of layers that do not rotate.

    Queries and keys of each layer, with the rotation of the class and with none, are compared with `Rotary`. ValueError
    if the rotation is none that `Rotary` can make.
    """
    kinds = kinds_of(tiny.config)
    own, still = (_calls(family, tiny, rotates) for rotates in (True, False))
    if len(own) != len(kinds):
        raise ValueError(f"{len(kinds)} layers call attention {len(own)} times")
    rotate = [not torch.allclose(a[0], b[0]) for a, b in zip(own, still, strict=True)]
    without = {kind for kind, rotates in zip(kinds, rotate, strict=True) if not rotates}
    if declared(tiny.config, "no_rope_layers") is None and without & {
        k for k, r in zip(kinds, rotate, strict=True) if r
    }:
        raise ValueError("layers of one kind differ in whether they rotate")
    family = replace(family, still=tuple(sorted(without)) if declared(tiny.config, "no_rope_layers") is None else ())
    for layout, share in itertools.product(("half_split", "interleaved"), (True, False)):
        made = replace(family, layout=layout, rotates_share=share)
        if all(
            not rotates or _rotates_alike(made, tiny.config, layer, own[layer], still[layer])
            for layer, rotates in enumerate(rotate)
        ):
            return made
    raise ValueError("queries and keys are not rotated in pairs of channels by position and frequency")


def _rotates_alike(
    family: Family, config: Any, layer: int, own: tuple[Tensor, Tensor], still: tuple[Tensor, Tensor]
) -> bool:
    """Return True if `Rotary` of a family makes the products of a layer's rotated queries and keys of those at rest."""
    frequencies, factor = rotation(config, family.share(config), LENGTH, kinds_of(config)[layer])
    angles = torch.arange(LENGTH, dtype=torch.float64)[:, None] * frequencies.to(torch.float64)
    tables = [(table * factor).to(torch.float32) for table in (angles.cos(), angles.sin())]
    rotate = rotate_interleaved if family.layout == "interleaved" else rotate_half_split
    expected, actual = _products(*own), _products(*(rotate(with_rotated_first(x, config), *tables) for x in still))
    return torch.allclose(actual, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


def _products(q_BHTD: Tensor, k_BGTD: Tensor) -> Tensor:
    k_BHTD = k_BGTD.repeat_interleave(q_BHTD.shape[1] // k_BGTD.shape[1], dim=1)
    return q_BHTD @ k_BHTD.transpose(-1, -2)


def _calls(family: Family, tiny: Any, rotates: bool) -> list[tuple[Tensor, Tensor]]:
    """Return queries and keys of each layer, (B, H, T, D) and (B, G, T, D), in a model whose attention adds nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface

    calls: list[tuple[Tensor, Tensor]] = []

    def attention(
        module: nn.Module, q: Tensor, k: Tensor, v: Tensor, *others: Any, **named: Any
    ) -> tuple[Tensor, None]:
        calls.append((q, k))
        return q.new_zeros(q.shape[0], q.shape[2], q.shape[1], v.shape[-1]), None

    def before(module: nn.Module, positional: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return positional, named if rotates else {**named, ROTATION: without_angles(named[ROTATION])}

    AttentionInterface.register(PROBE, attention)
    AttentionMaskInterface.register(PROBE, lambda *_, **__: None)
    earlier = tiny.config._attn_implementation
    modules = [part(layer, family.attention) for layer in family.layers_of(family.base_of(tiny))]
    handles = [module.register_forward_pre_hook(before, with_kwargs=True) for module in modules]
    tiny.set_attn_implementation(PROBE)
    try:
        with torch.no_grad():
            tiny(input_ids=tiny_text(), use_cache=False)
    finally:
        tiny.set_attn_implementation(earlier)
        for handle in handles:
            handle.remove()
    return calls


PROBE = "poslab_probe"  # name of an attention function that only keeps what it is called with
