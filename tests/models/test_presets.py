"""Each file of conf/experiment/models against the model of transformers after which it is named.

A tiny model of transformers reads a text twice: as it is, and with rotations (and temperatures) silenced. Its attention
returns zeros, so that the hidden states of both are the same, and shows the queries, keys and masks of each layer. Ours
must make of the silent queries and keys the logits of the others, under the same masks.
"""

from __future__ import annotations

import inspect
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from transformers import AttentionInterface, AutoConfig, AutoModel
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.deberta_v2.configuration_deberta_v2 import DebertaV2Config
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention, T5Config

import poslab.data.composed  # the share of a length in windows
from poslab.attention import AttentionContext, self_attention_contexts
from poslab.attention.attend import rotate_qk
from poslab.cli.advise import parameters_of, preset_of
from poslab.configuration.build import build
from poslab.encodings import Positions, StackEncodings
from poslab.models import StackConfig
from tests.encoding_choices import CONF, choice
from tests.training.runs import recorded, run_of, small

FILES = {file.stem: file for file in sorted(CONF.glob("experiment/models/*.yaml"))}
LENGTH, HEADS, TOKENS = 256, 4, 160
"""Training length of our stack, query heads, and tokens that are read."""
SHARE = LENGTH // 16
"""Windows, chunks and some original lengths, at this training length."""
PATTERN_OF_THREE = ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]


def rope(base: float, kind: str = "default", **others: Any) -> dict[str, Any]:
    return {"rope_type": kind, "rope_theta": base, **others}


LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": SHARE}
YARN = {"beta_fast": 32.0, "beta_slow": 1.0}

LATENT = {
    **{"num_key_value_heads": HEADS, "kv_lora_rank": 32, "q_lora_rank": 32, "v_head_dim": 16},
    **{"qk_rope_head_dim": 8, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 8},
}
"""Sizes of latent attention."""

THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama3_1": ("llama", {"rope_parameters": rope(500_000.0, "llama3", factor=8.0, **LLAMA3)}),
    "qwen3": ("qwen3", {"rope_parameters": rope(1_000_000.0)}),
    "qwen3_5": (
        "qwen3_5_text",
        {"layer_types": 8 * ["full_attention"], "rope_parameters": rope(10_000_000.0, partial_rotary_factor=0.25)},
    ),
    "gemma3": ("gemma3_text", {"sliding_window": SHARE}),
    "gemma4": ("gemma4_text", {"sliding_window": SHARE, "hidden_size_per_layer_input": 0, "global_head_dim": 16}),
    "olmo3": (
        "olmo3",
        {
            "sliding_window": SHARE,
            "rope_parameters": {
                "sliding_attention": rope(500_000.0),
                "full_attention": rope(
                    500_000.0, "yarn", factor=8.0, original_max_position_embeddings=LENGTH // 8, **YARN
                ),
            },
        },
    ),
    "cohere2": ("cohere2", {"sliding_window": LENGTH // 2, "rope_parameters": rope(50_000.0)}),
    "smollm3": ("smollm3", {"rope_parameters": rope(5_000_000.0)}),
    "exaone4": (
        "exaone4",
        {"sliding_window": SHARE, "rope_parameters": rope(1_000_000.0, "llama3", factor=16.0, **LLAMA3)},
    ),
    "afmoe": ("afmoe", {"sliding_window": SHARE}),
    "kolibri1": ("kolibri1", {"sliding_window": SHARE}),
    "cwm": ("cwm", {"sliding_window": SHARE, "rope_parameters": rope(1_000_000.0, "llama3", factor=16.0, **LLAMA3)}),
    "mellum": ("mellum", {"sliding_window": SHARE, "layer_types": 2 * PATTERN_OF_THREE}),
    "laguna": ("laguna", {"sliding_window": SHARE, "layer_types": 2 * PATTERN_OF_THREE[::-1]}),
    "minimax_m2": ("minimax_m2", {"rotary_dim": 8}),
    "glm4_5": ("glm4_moe", {"rope_parameters": rope(1_000_000.0, partial_rotary_factor=0.5)}),
    "glm4": ("glm4", {}),
    "lfm3": ("lfm3", {"sliding_window": SHARE, "layer_types": 4 * ["full_attention", "sliding_attention"]}),
    "llama4": ("llama4_text", {"attention_chunk_size": SHARE, "floor_scale": SHARE, "attn_temperature_tuning": True}),
    "muse": ("muse_spark_text", {"sliding_window": SHARE, "num_hidden_layers": 7}),
    "gpt_oss": (
        "gpt_oss",
        {
            "sliding_window": SHARE,
            "rope_parameters": rope(
                150_000.0,
                "yarn",
                factor=32.0,
                truncate=False,
                original_max_position_embeddings=LENGTH // 32,
                **YARN,
            ),
        },
    ),
    "mimo_v2_flash": ("mimo_v2_flash", {"sliding_window": SHARE, "head_dim": 48, "v_head_dim": 48}),
    "granite_swa": ("granite_swa", {"sliding_window": SHARE}),
    "ministral3": (
        "ministral3",
        {
            "rope_parameters": rope(
                1_000_000.0,
                "yarn",
                factor=16.0,
                original_max_position_embeddings=SHARE,
                max_position_embeddings=LENGTH,
                mscale=1.0,
                mscale_all_dim=1.0,
                llama_4_scaling_beta=0.1,
                **YARN,
            )
        },
    ),
    "deepseek_v3": (
        "deepseek_v3",
        {
            **{**LATENT, "qk_nope_head_dim": 16, "head_dim": 8},
            "rope_parameters": rope(
                10_000.0,
                "yarn",
                factor=40.0,
                original_max_position_embeddings=SHARE,
                mscale=1.0,
                mscale_all_dim=1.0,
                **YARN,
            ),
        },
    ),
    "mistral4": (
        "mistral4",
        {
            **{**LATENT, "qk_nope_head_dim": 8},
            "rope_parameters": rope(
                10_000.0,
                "yarn",
                factor=128.0,
                original_max_position_embeddings=SHARE,
                mscale=1.0,
                mscale_all_dim=1.0,
                llama_4_scaling_beta=0.1,
                **YARN,
            ),
        },
    ),
    "mistral_large4": (
        "mistral_large4_text",
        {
            **{**LATENT, "qk_nope_head_dim": 8},
            "rope_parameters": rope(
                10_000.0, "yarn", factor=2048.0, original_max_position_embeddings=SHARE, attention_factor=1.0, **YARN
            ),
        },
    ),
    "modernbert": ("modernbert", {"local_attention": 2 * (SHARE - 1)}),
    "ultrabert": ("ultrabert", {"sliding_window": SHARE - 1}),
    "nomic_bert": ("nomic_bert", {}),
}
"""Type of each model, and where its configuration is not the usual of its class: lengths, and values of the hub."""

SILENT: dict[str, dict[str, Any]] = {
    "llama4": {"attn_temperature_tuning": False},
    "ministral3": {
        "rope_parameters": {**THEIRS["ministral3"][1]["rope_parameters"], "llama_4_scaling_beta": 0.0},
    },
    "mistral4": {
        "rope_parameters": {**THEIRS["mistral4"][1]["rope_parameters"], "llama_4_scaling_beta": 0.0},
    },
}
"""What silences a temperature."""

TINY = {
    "hidden_size": 64,
    "intermediate_size": 16,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 8,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 11,
    "max_position_embeddings": LENGTH,
    "num_experts_per_tok": 2,
    **dict.fromkeys(("num_local_experts", "n_routed_experts", "num_experts"), 4),
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0),
}


@cache
def preset(name: str, length: int = LENGTH) -> DictConfig:
    """The encoding, the temperature and the keys of the model that a file chooses, for a training length of 256."""
    file = OmegaConf.load(FILES[name])
    chosen = {key.partition("/")[2]: value for each in file.defaults for key, value in each.items()}
    config = OmegaConf.create({"model": {"num_heads": HEADS}, "dataset": {"sequence_length": length}})
    for group in ("encoding", "temperature"):
        if group in chosen:
            config = OmegaConf.merge(config, {group: choice(group, chosen[group])})
    made = OmegaConf.merge(config, {key: file[key] for key in file if key != "defaults"})
    assert isinstance(made, DictConfig)
    return made


def stack_of(name: str, num_layers: int, head_dim: int, causal: bool = True, length: int = LENGTH) -> StackEncodings:
    config = preset(name, length)
    plain = OmegaConf.to_container(config, resolve=True)
    layers = plain["model"].get("layers")
    stack = StackConfig(
        encoding=instantiate(config.encoding),
        temperature=instantiate(config.temperature) if "temperature" in config else None,
        layers=layers and build({"layers": {"_target_": "poslab.encodings.LayerPattern", **layers}}, "layers", Any),
        sinks=config.model.get("sinks"),
        **{"d_model": HEADS * head_dim, "num_layers": num_layers, "num_heads": HEADS},
        **{"num_kv_heads": 2, "head_dim": head_dim},
    )
    return StackEncodings(stack.pattern, stack.shape(causal), stack.temperature)


class Shown:
    """Queries, keys, masks and modules that reach attention, layer by layer; attention returns zeros."""

    def __init__(self) -> None:
        self.layers: list[tuple[Tensor, Tensor, Tensor | None, nn.Module]] = []

    def __call__(
        self, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, attention_mask: Tensor | None, **_: Any
    ) -> Any:
        self.layers.append((q, k, attention_mask, module))
        return q.new_zeros(q.shape[0], q.shape[2], q.shape[1], v.shape[-1]), None


def silent(module: nn.Module, arguments: Any, output: Any) -> Any:
    if isinstance(output, tuple):
        return torch.ones_like(output[0]), torch.zeros_like(output[1])
    return torch.ones_like(output)  # complex numbers


@torch.no_grad()
def shown(kind: str, options: dict[str, Any], is_silent: bool) -> list[tuple[Tensor, Tensor, Tensor | None, nn.Module]]:
    show = Shown()
    AttentionInterface.register("shown", show)
    AttentionMaskInterface.register("shown", eager_mask)
    config = AutoConfig.for_model(kind, **{**TINY, **options})
    torch.manual_seed(0)
    model = AutoModel.from_config(config, attn_implementation="shown").eval()
    for module in model.modules():
        if is_silent and type(module).__name__.endswith("RotaryEmbedding"):
            module.register_forward_hook(silent)
        if not is_silent and type(module).__name__.endswith("SoftmaxScaling"):
            module.scale.fill_(0.3)
    model(torch.arange(TOKENS)[None] % 10 + 1)
    return show.layers


WITHOUT_ROTATIONS = {"t5": "t5", "deberta": "deberta-v2", "bloom": "bloom", "mpt": "mpt"}
"""Types of the other models."""
ENCODERS = ("modernbert", "ultrabert", "nomic_bert", "deberta")
SLOW = {"qwen3_5": pytest.mark.slow}  # its file imports flash-linear-attention, for layers that are not used here


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in THEIRS])
def test_layers_turn_scale_and_hide_as_those_of_transformers(name: str) -> None:
    kind, options = THEIRS[name]
    theirs = shown(kind, options, False)
    unturned = shown(kind, {**options, **SILENT.get(name, {})}, True)
    causal = name not in ENCODERS
    encodings = stack_of(name, len(theirs), theirs[0][0].shape[-1], causal)
    for temperature in encodings.temperatures.values():
        for scales in temperature.parameters(recurse=False):
            scales.data = torch.where(scales == 0, 0.3, scales)
    contexts = self_attention_contexts(encodings, Positions.range(TOKENS), causal=causal)
    turning = options.get("qk_rope_head_dim", 0)
    assert turning == int(preset(name).get("model", {}).get("shared_key", 0.0) * theirs[0][0].shape[-1])
    for layer, context in enumerate(contexts):
        (q, k, mask, module), (plain_q, plain_k, _, _) = theirs[layer], unturned[layer]
        expected = q @ k.repeat_interleave(HEADS // k.shape[1], dim=1).mT
        if turning:
            expected = expected * module.scaling * q.shape[-1] ** 0.5
            plain_q, plain_k = (turning_first(x, turning) for x in (plain_q, plain_k))
        torch.testing.assert_close(logits(plain_q, plain_k, context), expected, rtol=1e-5, atol=1e-5)
        visible = context.visibility.mask(TOKENS, TOKENS, q.device)
        everything = torch.ones(1, 1, TOKENS, TOKENS, dtype=torch.bool)
        assert torch.equal(everything if visible is None else visible, everything if mask is None else mask == 0)
        if name != "llama4":  # has norms without weights, in rotary layers alone
            has_norm = any(part in ("q_norm", "qk_norm") for part, _ in module.named_children())
            assert has_norm == preset(name).get("model", {}).get("qk_norm", False)
        assert (context.sinks is None) == (getattr(module, "sinks", None) is None)


def turning_first(x: Tensor, turning: int) -> Tensor:
    """Heads whose last channels are the first and the second of each pair that turns, in our order."""
    pairs = x[..., -turning:].unflatten(-1, (2, -1)).mT.flatten(-2)
    return torch.cat([pairs, x[..., :-turning]], dim=-1)


@torch.no_grad()
def logits(q: Tensor, k: Tensor, context: AttentionContext) -> Tensor:
    """The products of rotated queries and keys, scaled by what is not the usual scale."""
    turned_q, turned_k, scale = rotate_qk(
        q, k, context.encoding, context.tables, context.visibility, context.temperature
    )
    return turned_q @ turned_k.repeat_interleave(HEADS // k.shape[1], dim=1).mT * scale * q.shape[-1] ** 0.5


def test_t5_has_the_buckets_of_transformers() -> None:
    theirs, encoding = (
        T5Attention(T5Config(num_heads=HEADS), has_relative_attention_bias=True),
        stack_of("t5", 1, 8, False),
    )
    ours, positions = encoding.layer(0), Positions.range(300)
    with torch.no_grad():
        ours.table.copy_(theirs.relative_attention_bias.weight / ours.logit_scale)
    bias = ours.bias(ours.prepare(positions, positions)).matrix()
    torch.testing.assert_close(bias, theirs.compute_bias(300, 300), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["bloom", "mpt"])
def test_bloom_and_mpt_have_the_slopes_of_transformers(name: str) -> None:
    encoding, positions = stack_of(name, 1, 8).layer(0), Positions.range(TOKENS)
    ours = encoding.bias(encoding.prepare(positions, positions)).matrix()[0]
    if name == "bloom":
        theirs = build_alibi_tensor(torch.ones(1, TOKENS), HEADS, torch.float32)
    else:
        theirs = build_mpt_alibi_tensor(HEADS, TOKENS)
    # Theirs is a bias of the position of the key, which a softmax cannot tell from one of the distance.
    up_to_own = (theirs - theirs[..., -1:])[:, 0]
    torch.testing.assert_close(ours[:, -1], up_to_own, rtol=0, atol=1e-5)


def test_deberta_has_the_buckets_of_the_third_version() -> None:
    """transformers/tests and the hub: 256 buckets up to 512 tokens; its attention is checked in test_deberta.py."""
    config = preset("deberta").encoding
    assert (config.num_buckets, config.max_distance) == (256, DebertaV2Config().max_position_embeddings)


def test_every_preset_is_compared() -> None:
    assert {*FILES} == {*THEIRS, *WITHOUT_ROTATIONS}


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in FILES])
def test_a_released_model_is_that_of_transformers_or_of_the_comment(name: str) -> None:
    """The folder of a model names a checkpoint; a size is in its name, or that of the class's own sizes."""
    text, said = FILES[name].read_text(), preset_of(FILES[name])
    comment = text.partition("# Released:")[0].replace("\n# ", " ")
    config = AutoConfig.for_model(THEIRS[name][0] if name in THEIRS else WITHOUT_ROTATIONS[name])
    folder = Path(str(inspect.getfile(type(config)))).parent
    assert said["model"] in comment or any(said["model"] in file.read_text() for file in folder.glob("*.py"))
    if said["parameters"] is not None and (size := re.search(r"-(\d+(\.\d+)?[bBMT])\b", said["model"])):
        assert said["parameters"] == parameters_of(size[1].upper())
    elif said["parameters"] is not None:
        with torch.device("meta"):
            model = AutoModel.from_config(config)
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(said["parameters"], rel=0.02)
    if said["context"] is not None and f"{said['context']:,}" not in comment:
        lengths = [getattr(config, key, None) for key in ("max_position_embeddings", "max_seq_len")]
        assert said["context"] in lengths


@pytest.mark.parametrize("name", FILES)
def test_the_page_of_models_has_it(name: str) -> None:
    assert f"`{name}`" in (CONF.parent / "docs" / "models.md").read_text()


@pytest.mark.parametrize("name", FILES)
def test_a_preset_serves_texts_of_few_tokens(name: str) -> None:
    assert len(stack_of(name, 6, 48, causal=name not in ENCODERS, length=16).windows) == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_preset_trains(name: str, tmp_path: Path) -> None:
    sizes = ("model.d_model=32", "model.num_heads=2", "model.num_layers=6", "dataset.sequence_length=64")
    steps = ("dataset.batch_size=2", "dataset.length_multiples=[1]", "trainer.max_steps=2", "trainer.validations=1")
    run = run_of(small(tmp_path, f"experiment=models/{name}", *sizes, *steps), tmp_path / "run")
    gradient_norms = [value for _, tag, value in recorded(run) if tag == "train/gradient_norm"]
    assert run.metrics()["steps"] == 2 and all(value > 0 for value in gradient_norms) and gradient_norms


@pytest.mark.parametrize("name", FILES)
def test_a_preset_says_what_it_is_and_how_it_is_used(name: str) -> None:
    first, *lines = FILES[name].read_text().splitlines()
    comment = " ".join(line[2:] for line in lines if line.startswith("# ") and not line.startswith("# Released: "))
    assert first == "# @package _global_" and comment.startswith("The positions of ")
    assert comment.endswith(f"Use: experiment=models/{name}")


assert poslab.data.composed  # imported for what it registers
