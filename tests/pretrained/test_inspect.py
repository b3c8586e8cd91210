"""`inspect` names the faults of configurations that programs read silently, and runs nothing of a directory."""

from __future__ import annotations

import json
import math
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poslab import inspect_positions
from poslab.cli.inspect import lines_of
from poslab.pretrained.inspection.findings import NOTES, WARNINGS
from poslab.pretrained.inspection.report import ranges
from tests.conftest import ROOT

QWEN: dict[str, Any] = {
    "model_type": "qwen3",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "head_dim": 16,
    "max_position_embeddings": 131_072,
    "rope_theta": 1e6,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}
SCALED = QWEN | {"rope_scaling": YARN}
LATENT = {"model_type": "deepseek_v3", "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8}
LATENT |= {"max_position_embeddings": 131_072, "rope_theta": 1e4}
MSCALES = {"mscale": 1.0, "mscale_all_dim": 1.0}
MODERN_BERT = {"model_type": "modernbert", "num_hidden_layers": 3}
OLMO3 = {"model_type": "olmo3", "num_hidden_layers": 4, "rope_theta": 5e5, "max_position_embeddings": 131_072}
NESTED = {"full_attention": {"rope_theta": 5e5, **YARN}}
NESTED |= {"sliding_attention": {"rope_theta": 5e5, "rope_type": "default"}}
LLAMA = QWEN | {"model_type": "llama", "head_dim": 128, "max_position_embeddings": 4096}
LONG = {"rope_type": "longrope", "original_max_position_embeddings": 32_768}
LONG |= {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8}

FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "1 factor and lengths": (QWEN | {"rope_scaling": YARN | {"factor": 2.0}}, SCALED, "factor_contradicts_lengths"),
    "2 maximum is the original": (
        QWEN | {"rope_scaling": YARN | {"original_max_position_embeddings": 131_072}},
        SCALED,
        "original_equals_maximum",
    ),
    "3 length multiplied twice": (
        QWEN | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        SCALED,
        "length_multiplied_twice",
    ),
    "3 vendor's name": (
        QWEN | {"rope_scaling": YARN | {"rope_type": "telechat3-yarn"}},
        SCALED,
        "vendor_rope_type",
    ),
    "3 DeepSeek's name": (
        LATENT | {"rope_scaling": YARN | MSCALES | {"rope_type": "deepseek_yarn"}},
        LATENT | {"rope_scaling": YARN | MSCALES},
        "vendor_rope_type",
    ),
    "4 one mscale": (
        LATENT | {"rope_scaling": YARN | {"mscale_all_dim": 1.0}},
        LATENT | {"rope_scaling": YARN | MSCALES},
        "mscale_without_other",
    ),
    "4 mscale and attention_factor": (
        LATENT | {"rope_scaling": YARN | MSCALES | {"attention_factor": 1.2}},
        LATENT | {"rope_scaling": YARN | MSCALES},
        "mscale_ignored",
    ),
    "5 betas swapped": (
        QWEN | {"rope_scaling": YARN | {"beta_fast": 1.0, "beta_slow": 32.0}},
        QWEN | {"rope_scaling": YARN | {"beta_fast": 32.0, "beta_slow": 1.0}},
        "betas_swapped",
    ),
    "7 share without its type": (
        QWEN | {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default", "partial_rotary_factor": 0.25}},
        QWEN | {"rope_parameters": {"rope_theta": 1e6, "rope_type": "proportional", "partial_rotary_factor": 0.25}},
        "share_not_read",
    ),
    "8 and 9 one base for two kinds": (
        MODERN_BERT | {"rope_theta": 1e4},
        MODERN_BERT | {"global_rope_theta": 1.6e5, "local_rope_theta": 1e4},
        "one_base_for_all_layers",
    ),
    "10 pairing that the class does not read": (QWEN | {"rope_interleaved": True}, QWEN, "field_not_read"),
    "11 YaRN fields under another type": (
        QWEN | {"rope_scaling": {"rope_type": "linear", "factor": 4.0, "beta_fast": 32.0}},
        QWEN | {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        "field_not_read",
    ),
    "11 unknown field": (QWEN | {"rope_scaling": YARN | {"betafast": 32}}, SCALED, "field_not_read"),
    "11 unknown field at the top": (QWEN | {"yarn_factor": 4.0}, QWEN, "field_not_read"),
    "11 type without rope_type": (
        QWEN | {"rope_scaling": {"type": "linear", "factor": 4.0}},
        QWEN | {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        "type_without_rope_type",
    ),
    "12 odd width": (
        QWEN | {"model_type": "phi", "partial_rotary_factor": 0.45},
        QWEN | {"model_type": "phi", "partial_rotary_factor": 0.5},
        "odd_rotary_width",
    ),
    "30 YaRN in sliding layers": (
        OLMO3 | {"rope_parameters": NESTED | {"sliding_attention": NESTED["full_attention"]}},
        OLMO3 | {"rope_parameters": NESTED},
        "yarn_in_sliding_layers",
    ),
    "16 base below the bound": (LLAMA | {"rope_theta": 26_950}, LLAMA | {"rope_theta": 26_955}, "base_below_bound"),
    "16 new angles": (
        QWEN | {"rope_scaling": LONG | {"long_factor": [1.0] * 8}},
        QWEN | {"rope_scaling": LONG},
        "new_angles",
    ),
    "39 float32": (QWEN | {"rope_theta": 1e8}, QWEN, "precision_float32"),
}
"""Demands of users by their number in the survey: a faulty configuration, the corrected one, and the code."""


def written(folder: Path, config: Any) -> str:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return str(folder)


def codes(folder: Path, config: dict[str, Any], context: int | None = None) -> set[str]:
    return {finding.code for finding in inspect_positions(written(folder, config), context).findings}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_the_corrected_form_is_not(tmp_path, fault):
    faulty, corrected, code = FAULTS[fault]
    assert code in codes(tmp_path, faulty)
    assert code not in codes(tmp_path, corrected)


def test_each_code_has_a_message_and_a_source():
    assert not WARNINGS.keys() & NOTES.keys()
    for message, source in (WARNINGS | NOTES).values():
        assert message and source


def rows(source: str, **keys: Any) -> list[dict[str, Any]]:
    return inspect_positions(source, **keys).to_json()["groups"]


def test_layers_that_are_equal_are_a_group():
    sliding, full = rows("Gemma3ForCausalLM")
    assert full["layers"] == [5, 11, 17, 23] and len(sliding["layers"]) == 22
    assert [(group["attention"], group["window"]) for group in (sliding, full)] == [("sliding", 4096), ("full", None)]
    assert (sliding["rope"]["base"], full["rope"]["base"]) == (1e4, 1e6)
    assert [ranges(numbers) for numbers, _ in inspect_positions("gemma3").groups] == [
        "0-4, 6-10, 12-16, 18-22, 24-25",
        "5, 11, 17, 23",
    ]


@pytest.mark.parametrize(
    ("source", "layer", "expected"),
    [
        ("gpt_oss", 0, {"attention": "sliding", "window": 128, "has_sinks": True}),
        ("gemma2", 0, {"softcap": 50.0, "has_sinks": False}),
        ("deepseek_v3", 0, {"is_latent": True}),
        ("llama4", 0, {"attention": "chunked", "window": 8192}),
        ("llama4", 3, {"attention": "full", "rope": None, "rotation": "none"}),
        ("smollm3", 3, {"attention": "full", "rope": None}),
        ("cohere2", 3, {"attention": "full", "rope": None}),
        ("qwen3_next", 0, {"attention": "linear", "rope": None}),
        ("mamba", 0, {"attention": "linear", "rope": None}),
        ("moshi", 0, {"rope": None, "rotation": "unknown: a condition in the code of the class decides"}),
    ],
)
def test_attention_of_a_layer(source, layer, expected):
    (group,) = [group for group in rows(source) if layer in group["layers"]]
    assert expected.items() <= group.items()


@pytest.mark.parametrize(
    ("source", "first", "rotary_dim", "head_dim", "pairing"),
    [
        ("llama", 0, 128, 128, "half-split"),
        ("cohere", 0, 128, 128, "interleaved"),
        ("gptj", 0, 64, 256, "interleaved"),
        ("gpt_neox", 0, 24, 96, "half-split"),
        ("deepseek_v3", 128, 64, 192, "interleaved"),
        ("gemma4", 0, 256, 256, "half-split"),
    ],
)
def test_channels_that_rotate(source, first, rotary_dim, head_dim, pairing):
    rope = rows(source)[0]["rope"]
    expected = {"first": first, "rotary_dim": rotary_dim, "head_dim": head_dim, "pairing": pairing}
    assert expected.items() <= rope.items()


def test_the_pairing_of_deepseek_follows_its_configuration(tmp_path):
    (group,) = rows(written(tmp_path, LATENT | {"rope_interleave": False}))
    assert group["rope"]["pairing"] == "half-split"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("BertModel", "learned rows: a vector for each of 512"),
        ("roberta", "learned rows: a vector for each of 510"),
        ("GPT2LMHeadModel", "learned rows: a vector for each of 1,024"),
        ("t5", "T5: a learned bias for each of 32 buckets"),
        ("bloom", "ALiBi"),
        ("mpt", "ALiBi"),
        ("xglm", "sinusoids"),
    ],
)
def test_positions_that_do_not_rotate(source, words):
    (group,) = rows(source)
    assert group["rope"] is None and any(other.startswith(words) for other in group["others"])


def test_falcon_has_alibi_only_if_its_configuration_says_so(tmp_path):
    falcon = {"model_type": "falcon", "num_hidden_layers": 2}
    assert rows(written(tmp_path, falcon))[0]["rope"]["base"] == 1e4
    assert rows(written(tmp_path, falcon | {"alibi": True}))[0]["rope"] is None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (QWEN | {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic NTK"),
        (QWEN | {"rope_scaling": LONG}, "longrope"),
        ({"model_type": "ministral3", "num_hidden_layers": 1}, "queries times 1 + 0.1 ln(1 + floor(p / 16384))"),
    ],
)
def test_what_changes_with_the_length(tmp_path, config, words):
    (group,) = rows(written(tmp_path, config))
    assert any(change.startswith(words) for change in group["with_length"])


def test_the_context_chooses_the_divisors_of_longrope(tmp_path):
    source = written(tmp_path, QWEN | {"rope_scaling": LONG})
    short, long = (rows(source, context=context)[0]["rope"] for context in (32_768, 32_769))
    np.testing.assert_allclose(np.divide(short["inverse_frequencies"], long["inverse_frequencies"]), 4.0)
    assert short["attention_factor"] == math.sqrt(1 + math.log(4) / math.log(32_768))


def test_a_divisor_beyond_all_lengths_is_a_pair_that_does_not_rotate(tmp_path):
    """As `poslab export` writes RoPE on a part of each head."""
    still = LONG | {"short_factor": [1.0] * 6 + [1e30] * 2, "long_factor": [2.0] * 6 + [1e30] * 2}
    frequencies = rows(written(tmp_path, QWEN | {"rope_scaling": still}), context=64)[0]["rope"]["inverse_frequencies"]
    assert all(frequencies[:6]) and frequencies[6:] == [0.0, 0.0]


def test_a_class_that_nobody_knows_is_read_as_far_as_its_configuration_goes(tmp_path):
    (group,) = rows(written(tmp_path, QWEN | {"model_type": "of_the_future"}))
    assert (group["rope"]["base"], group["rope"]["pairing"], group["has_sinks"]) == (1e6, None, None)


def test_the_model_of_a_model_of_images_is_its_language_model(tmp_path):
    scaling = {"type": "mrope", "mrope_section": [2, 3, 3]}
    text = QWEN | {"model_type": "qwen2_5_vl_text", "rope_scaling": scaling}
    inspection = inspect_positions(written(tmp_path, {"model_type": "qwen2_5_vl", "text_config": text}))
    assert inspection.layers[0].rope.block["mrope_section"] == [2, 3, 3]
    assert "field_not_read" not in {finding.code for finding in inspection.findings}


QWEN_SIZES = {key: value for key, value in QWEN.items() if key != "model_type"}
HOSTILE: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "JSON"),
    "no object": ("[1]", "object"),
    "deep": ("[" * 100_000, "JSON"),
    "deep object": ('{"a":' * 900 + "1" + "}" * 900, ""),
    "huge": ('{"a": "' + "a" * 10_000_001 + '"}', "bytes"),
    "no type": ({}, ""),
    "type that is a list": ({"model_type": ["llama"]}, ""),
    "NaN": (QWEN | {"rope_theta": math.nan}, "rope_theta"),
    "infinite": (QWEN | {"rope_theta": math.inf}, "rope_theta"),
    "text for a number": (QWEN | {"num_hidden_layers": "2"}, "num_hidden_layers"),
    "text for a base": (QWEN | {"rope_theta": "1e6"}, "rope_theta"),
    "negative": (QWEN | {"num_hidden_layers": -1}, "num_hidden_layers"),
    "no heads": (QWEN | {"model_type": "unknown", "head_dim": None, "num_attention_heads": 0}, "num_attention_heads"),
    "many layers": (QWEN | {"num_hidden_layers": 10**9}, "num_hidden_layers"),
    "half a layer": (QWEN | {"model_type": "unknown", "num_hidden_layers": 0.5}, "num_hidden_layers"),
    "negative factor": (QWEN | {"rope_scaling": YARN | {"factor": -4.0}}, "factor"),
    "factor that is missing": (QWEN | {"rope_scaling": {"rope_type": "yarn"}}, "factor"),
    "list that is short": (QWEN | {"rope_scaling": LONG | {"long_factor": [1.0]}}, "long_factor"),
    "block that is a text": (QWEN | {"rope_scaling": "yarn"}, ""),
    "type that nobody knows": (QWEN | {"rope_scaling": {"rope_type": "magic", "factor": 2.0}}, "rope_type"),
    "wide head": (QWEN | {"head_dim": 10**9}, "head_dim"),
    "many kinds": ({"model_type": "unknown", "layer_types": [f"{n}" for n in range(99)], **QWEN_SIZES}, "layer_types"),
    "odd head": (QWEN | {"head_dim": 15}, "head_dim"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_configuration_is_one_sentence(tmp_path, name):
    config, key = HOSTILE[name]
    with pytest.raises(ValueError) as raised:
        inspect_positions(written(tmp_path, config))
    assert key in str(raised.value) and "\n" not in str(raised.value)


def test_nothing_of_a_directory_is_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "modeling_bomb.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'exploded')!r})\n")
    mapped = {"AutoConfig": "modeling_bomb.BombConfig", "AutoModelForCausalLM": "modeling_bomb.Bomb"}
    for config in (QWEN, QWEN | {"model_type": "bomb"}):
        assert "remote_code" in codes(tmp_path, config | {"auto_map": mapped})
    assert not (tmp_path / "exploded").exists()


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text(json.dumps(QWEN))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="symbolic link"):
        inspect_positions(str(tmp_path / "model"))


@pytest.mark.parametrize("source", ["nonsense", "/no/such.json", "x.gguf", "", "\0", "some/model", "a/b/c"])
def test_a_source_that_is_not_there_is_one_sentence(source):
    with pytest.raises(ValueError):
        inspect_positions(source)


def test_a_folder_without_a_configuration_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"config\.json"):
        inspect_positions(str(tmp_path))


@pytest.mark.parametrize("context", [0, -1, 1.5, True, "8192", 2**40])
def test_a_context_is_a_positive_integer(context):
    with pytest.raises(ValueError, match="context"):
        inspect_positions("llama", context)


def test_the_guide_shows_what_the_command_prints(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "guides" / "inspect.md").read_text(encoding="utf-8")
    config, output = (page.split(f"```{language}\n")[1].split("\n```")[0] for language in ("json", "text"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qwen").mkdir()
    written(tmp_path / "qwen", config)
    assert "\n".join(lines_of(inspect_positions("qwen", 131_072))) == output
    assert {*WARNINGS, *NOTES} - {"precision_float16", "precision_float32"} <= {*re.findall(r"\w+", page)}
