"""Golden values equal those of transformers' rotary classes, and `check` names the mistake of another program."""

from __future__ import annotations

import importlib
import io
import json
import math
import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save
from safetensors.torch import save_file
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from poslab import inspect_positions
from poslab.cli.inspect import main
from poslab.pretrained.inspection.check import check_values
from poslab.pretrained.inspection.golden import golden_values
from tests.conftest import ROOT
from tests.pretrained.test_inspect import LATENT, QWEN, YARN, written

LENGTH = 64
SIZES = {"num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4}
SIZES |= {"head_dim": 16, "max_position_embeddings": LENGTH}
DEFAULT = {"rope_type": "default", "rope_theta": 1e4}
SHORT = {"factor": 4.0, "original_max_position_embeddings": 16}
SHORT_YARN = SHORT | {"rope_type": "yarn", "beta_fast": 4.0, "beta_slow": 1.0, "rope_theta": 1e4}
TWO_BASES = {"sliding_attention": DEFAULT}
TWO_BASES |= {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}}
KINDS = {"layer_types": ["sliding_attention", "full_attention"] * 2}
LLAMA3 = SHORT | {"rope_type": "llama3", "rope_theta": 5e5, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONGROPE = SHORT | {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8}
LONGROPE |= {"long_factor": [1.0, 1.5, 2, 3, 4, 5, 6, 7]}

MODELS: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": LLAMA3},
    "llama4_text": {"rope_parameters": LLAMA3},
    "glm": {"rope_parameters": DEFAULT | {"partial_rotary_factor": 0.5}},
    "gpt_neox": {"rope_parameters": DEFAULT | {"partial_rotary_factor": 0.25}},
    "deepseek_v3": LATENT | {"head_dim": 8, "rope_parameters": SHORT_YARN | {"mscale": 1.0, "mscale_all_dim": 0.5}},
    "gpt_oss": {"rope_parameters": SHORT_YARN | {"truncate": False}},
    "gemma3_text": KINDS | {"rope_parameters": TWO_BASES},
    "phi3": {"rope_parameters": LONGROPE},
    "qwen3": {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}},
}


def values_of_transformers(config: dict[str, Any], golden: dict[str, Any]) -> dict[str, Any]:
    """Cosines, sines and rotated vectors of each layer by the rotary module and the function of a class."""
    made = CONFIG_MAPPING[config["model_type"]].from_dict(json.loads(json.dumps(config)))
    module: Any = importlib.import_module(type(made).__module__.replace("configuration_", "modeling_"))
    prefix = type(made).__name__.removesuffix("Config")
    rotary = getattr(module, f"{prefix.removeprefix('Gemma3Text') or 'Gemma3'}RotaryEmbedding")(made)
    positions = torch.from_numpy(golden["positions"])
    if config["model_type"] == "qwen3":  # its frequencies follow the last position
        positions = positions[positions < LENGTH]
    values = {}
    for layer in sorted({int(key.split(".")[1]) for key in golden if key.endswith("cos")}):
        kinds = {"layer_type": made.layer_types[layer]} if isinstance(rotary.rope_type, dict) else {}
        angles = rotary(torch.zeros(1, dtype=torch.float64), positions[None], **kinds)
        vectors = [torch.from_numpy(golden[f"layers.{layer}.{name}"]) for name in ("query", "key")]
        q, k = (x_D.repeat(1, 1, len(positions), 1) for x_D in vectors)
        if torch.is_tensor(angles):
            cos, sin = angles.real, angles.imag
            function, parts = module.apply_rotary_emb, (q.transpose(1, 2), k.transpose(1, 2), angles)
            rotated = [part.transpose(1, 2) for part in function(*parts)]
        else:
            cos, sin = angles
            is_latent, pairs = "kv_lora_rank" in config, golden[f"layers.{layer}.cos"].shape[1]
            start = q.shape[-1] - cos.shape[-1] if is_latent else 0
            function = module.apply_rotary_pos_emb_interleave if is_latent else module.apply_rotary_pos_emb
            parts = function(q[..., start:], k[..., start:], cos, sin)
            rotated = [torch.cat([x[..., :start], part], -1) for x, part in zip((q, k), parts, strict=True)]
            cos, sin = cos[..., :pairs], sin[..., :pairs]
        parts = {"cos": cos[0], "sin": sin[0], "rotated_query": rotated[0][0, 0], "rotated_key": rotated[1][0, 0]}
        values |= {f"layers.{layer}.{name}": value.numpy() for name, value in parts.items()}
    return {"positions": positions.numpy(), **values}


def model(folder: Path, config: dict[str, Any], length: int | None = LENGTH) -> tuple[str, dict[str, Any]]:
    """A folder with a configuration, and its golden values."""
    folder.mkdir(exist_ok=True)
    return written(folder, config), golden_values(inspect_positions(str(folder), length))[0]


def verdicts(source: str, values: dict[str, Any], length: int | None = LENGTH) -> dict[str, str]:
    """Differing layers, each with the cause."""
    file = Path(source) / "mine.npz"
    np.savez(file, **values)
    rows, differs = check_values(source, file, length)
    layers = [(key, rows[n + 1][1]) for n, (key, message) in enumerate(rows) if key.startswith("layer ") and message]
    assert differs == bool(layers)
    return {key.removeprefix("layer "): cause for key, cause in layers}


@pytest.mark.parametrize("model_type", MODELS)
def test_golden_values_are_those_of_transformers(tmp_path, monkeypatch, model_type):
    config = SIZES | {"model_type": model_type} | MODELS[model_type] | {"max_position_embeddings": LENGTH}
    source, golden = model(tmp_path, config)
    in_float32 = values_of_transformers(config, golden)
    as_float32 = {key: value.astype(np.float32) for key, value in in_float32.items() if key != "positions"}
    assert not verdicts(source, {"positions": in_float32["positions"], **as_float32})
    monkeypatch.setattr(torch, "float", torch.float64)  # its modules convert to float32 by these
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    in_float64 = values_of_transformers(config, golden)
    assert not verdicts(source, in_float64)
    for key, values in in_float64.items():
        is_reordered = "kv_lora_rank" in config and "rotated" in key
        expected = (
            np.concatenate([values[:, :16], values[:, 16:].reshape(-1, 2, 4).swapaxes(1, 2).reshape(-1, 8)], 1)
            if is_reordered
            else values
        )
        np.testing.assert_allclose(golden[key][: len(values)], expected, rtol=0, atol=1e-12, err_msg=key)


def rotated(x_D: Any, cos_NP: Any, sin_NP: Any, a: Any, b: Any) -> Any:
    result = np.tile(x_D, (len(cos_NP), 1))
    result[:, a], result[:, b] = x_D[a] * cos_NP - x_D[b] * sin_NP, x_D[b] * cos_NP + x_D[a] * sin_NP
    return result


def again(values: dict[str, Any], angles_NP: Any, dtype: Any = np.float64) -> dict[str, Any]:
    """The values of layer 0 with other angles."""
    factor = values["layers.0.attention_factor"]
    cos_NP, sin_NP = (factor * function(angles_NP).astype(dtype) for function in (np.cos, np.sin))
    pairs = np.arange(cos_NP.shape[1])
    vectors = {name: values[f"layers.0.{name}"] for name in ("query", "key")}
    turned = {f"rotated_{name}": rotated(x, cos_NP, sin_NP, pairs, pairs + len(pairs)) for name, x in vectors.items()}
    parts = {"cos": cos_NP, "sin": sin_NP, **turned}
    return {"positions": values["positions"], **{f"layers.0.{k}": v.astype(dtype) for k, v in parts.items()}}


def angles_of(values: dict[str, Any], shift: float = 0, narrow: Any = lambda x: x) -> Any:
    frequencies = torch.from_numpy(values["layers.0.inverse_frequencies"])
    return torch.outer(narrow(torch.from_numpy(values["positions"]) + shift), frequencies).numpy()


def interleaved(values: dict[str, Any]) -> dict[str, Any]:
    cos_NP, sin_NP, first = values["layers.0.cos"], values["layers.0.sin"], np.arange(0, 16, 2)
    parts = ("query", "key")
    pairs = {f"layers.0.rotated_{x}": rotated(values[f"layers.0.{x}"], cos_NP, sin_NP, first, first + 1) for x in parts}
    return values | pairs


def within_the_share(values: dict[str, Any]) -> dict[str, Any]:
    cos_NP, sin_NP = values["layers.0.cos"][:, :2], values["layers.0.sin"][:, :2]
    parts = {"cos": cos_NP, "sin": sin_NP}
    parts |= {
        f"rotated_{x}": rotated(values[f"layers.0.{x}"], cos_NP, sin_NP, [0, 1], [2, 3]) for x in ("query", "key")
    }
    return {f"layers.0.{name}": part for name, part in parts.items()}


def to_bfloat16(values: Any) -> Any:
    return torch.as_tensor(values).to(torch.bfloat16).double()


SCALED = QWEN | {"rope_scaling": YARN}
PROPORTIONAL = {"rope_theta": 1e6, "rope_type": "proportional", "partial_rotary_factor": 0.25}
MODERN_BERT = {"model_type": "modernbert", "num_hidden_layers": 3}
MSCALE = LATENT | {"rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 0.5}}
MIXED = SIZES | KINDS | {"model_type": "olmo3", "rope_parameters": TWO_BASES}
LONG = QWEN | {"rope_scaling": LONGROPE | {"rope_theta": 1e6}}


def scaling(**fields: Any) -> dict[str, Any]:
    return QWEN | {"rope_scaling": YARN | fields}


FAULTS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "1 factor from the lengths": (scaling(factor=2.0), SCALED, "factor 4, from the lengths"),
    "2 maximum for the original": (
        SCALED,
        scaling(original_max_position_embeddings=131_072),
        "original_max_position_embeddings=131,072",
    ),
    "3 vendor's factor": (SCALED, scaling(attention_factor=0.07 * math.log(4) + 1), "0.07 ln(factor)"),
    "4 mscale": (MSCALE, LATENT | {"rope_scaling": YARN}, "mscale left out"),
    "5 betas": (SCALED, scaling(beta_fast=1.0, beta_slow=32.0), "beta_fast and beta_slow swapped"),
    "5 bounds of llama3": (
        QWEN | {"rope_scaling": LLAMA3},
        QWEN | {"rope_scaling": LLAMA3 | {"low_freq_factor": 4.0, "high_freq_factor": 1.0}},
        "low_freq_factor and high_freq_factor swapped",
    ),
    "6 scaling off": (SCALED, QWEN, "scaling left out"),
    "7 pairs within the share": (QWEN | {"rope_parameters": PROPORTIONAL}, within_the_share, "within the first 4"),
    "8 default base": (QWEN, QWEN | {"rope_theta": 1e4}, "base 10,000"),
    "9 local base": (
        MODERN_BERT,
        lambda values: {key: values.get(key.replace(".0.", ".1.")) for key in values if ".0." in key},
        "base 10,000 of the sliding layers",
    ),
    "10 pairs": (SCALED, interleaved, "interleaved pairs instead of half-split"),
    "11 fields ignored": (QWEN | {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, QWEN, "scaling left out"),
    "truncated ramp": (scaling(truncate=False), SCALED, "truncate=True"),
    "linear": (SCALED, QWEN | {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, "linear scaling instead of"),
    "factor twice": (SCALED, scaling(factor=16.0), "factor applied twice"),
    "attention factor": (SCALED, scaling(attention_factor=1.0), "attention factor left out"),
    "attention factor twice": (SCALED, scaling(attention_factor=(0.1 * math.log(4) + 1) ** 2), "factor applied twice"),
    "positions from 1": (SCALED, lambda values: again(values, angles_of(values, 1)), "positions off by one (+1)"),
    "positions from -1": (SCALED, lambda values: again(values, angles_of(values, -1)), "positions off by one (-1)"),
    "other way": (SCALED, lambda values: again(values, -angles_of(values)), "sign of sin"),
    "float32": (SCALED, lambda values: again(values, np.float32(angles_of(values))), "computed in float32"),
    "positions in bfloat16": (
        SCALED,
        lambda values: again(values, angles_of(values, 0, to_bfloat16), np.float32),
        "positions in bfloat16",
    ),
    "angles in bfloat16": (
        SCALED,
        lambda values: again(values, to_bfloat16(angles_of(values)).numpy(), np.float32),
        "angles in bfloat16",
    ),
    "values in bfloat16": (
        SCALED,
        lambda values: {key: to_bfloat16(values[key]).numpy() for key in values if key.endswith(("cos", "sin"))},
        "computed in bfloat16",
    ),
    "scaling in other layers": (
        MIXED,
        MIXED
        | {"rope_parameters": TWO_BASES | {"sliding_attention": TWO_BASES["full_attention"] | {"rope_theta": 1e4}}},
        "scaling of the full layers",
    ),
    "length": (LONG, LONG, "frequencies of a text of 16 tokens"),
    "unknown": (SCALED, QWEN | {"rope_theta": 12_345.0}, "no known cause"),
}
"""Mistakes by their number in the survey of demands: a configuration, the mistake in values or in a configuration, and
its cause."""


@pytest.mark.parametrize("fault", FAULTS)
def test_the_cause_of_faulty_values_is_named_and_the_correct_form_passes(tmp_path, fault):
    config, mistake, cause = FAULTS[fault]
    length = None if fault != "length" else 17
    source, golden = model(tmp_path / "model", config, length)
    faulty = mistake(golden) if callable(mistake) else model(tmp_path / "other", mistake, 16 if length else None)[1]
    if length:
        faulty = {key: value for key, value in faulty.items() if "rotated" not in key and key != "positions"}
        faulty["positions"] = model(tmp_path / "other", mistake, 16)[1]["positions"]
    (named,) = verdicts(source, faulty, length).values()
    assert cause in named, named
    assert not verdicts(source, golden, length)


@pytest.mark.parametrize("config", [SCALED, MSCALE, MODERN_BERT, MIXED], ids=["yarn", "latent", "two bases", "mixed"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_golden_values_pass_in_every_type(tmp_path, config, dtype):
    source, golden = model(tmp_path, config)
    narrow = {key: torch.from_numpy(value).to(dtype) for key, value in golden.items() if value.dtype == np.float64}
    narrow = {key: value for key, value in narrow.items() if not key.endswith(("query", "key")) or "rotated" in key}
    save_file({**narrow, "positions": torch.from_numpy(golden["positions"])}, tmp_path / "mine.safetensors")
    assert check_values(source, tmp_path / "mine.safetensors", LENGTH)[1] is False
    wrong = {key: value * (1 + 0.05 * key.endswith("cos")) for key, value in narrow.items()}
    save_file(wrong, tmp_path / "mine.safetensors")
    assert check_values(source, tmp_path / "mine.safetensors", LENGTH)[1] is True


@pytest.mark.parametrize("kind", ["bloom", "mpt", "falcon"])
@pytest.mark.parametrize("heads", [4, 6])
def test_biases_are_those_of_transformers(tmp_path, kind, heads):
    sizes = {"n_head": heads, "n_heads": heads, "num_attention_heads": heads, "hidden_size": 12, "d_model": 12}
    _, golden = model(tmp_path, {"model_type": kind, **sizes, "alibi": True})
    module = importlib.import_module(f"transformers.models.{kind}.modeling_{kind}")
    if kind == "mpt":
        biases = module.build_mpt_alibi_tensor(heads, 65)[:, 0]
    else:
        biases = module.build_alibi_tensor(torch.ones(1, 65), heads, torch.float64)[:, 0]
        biases = (biases - biases[:, -1:]) / (math.sqrt(12 // heads) if kind == "falcon" else 1)
    positions = golden["positions"]
    within = positions <= 64
    rtol = 1e-2 if kind == "falcon" else 1e-6  # it rounds slopes to bfloat16
    np.testing.assert_allclose(golden["layers.0.alibi"][within], biases.numpy()[:, 64 - positions[within]].T, rtol=rtol)


@pytest.mark.parametrize("is_decoder", [True, False])
def test_buckets_are_those_of_t5(tmp_path, is_decoder):
    _, golden = model(tmp_path, {"model_type": "t5"})
    bucket = importlib.import_module("transformers.models.t5.modeling_t5").T5Attention._relative_position_bucket
    distances = torch.from_numpy(golden["positions"])
    expected = [bucket(sign * distances, not is_decoder, 32, 128) for sign in ((-1,) if is_decoder else (-1, 1))]
    key = "layers.0.causal_buckets" if is_decoder else "layers.0.buckets"
    np.testing.assert_array_equal(golden[key], torch.stack(expected, 1).numpy())


@pytest.mark.parametrize(
    ("source", "words"),
    [("gpt2", "learned rows"), ("mamba", "none"), ("xglm", "sinusoids"), ("moshi", "unknown")],
)
def test_a_model_without_golden_values_is_one_sentence(source, words):
    with pytest.raises(ValueError, match=words):
        golden_values(inspect_positions(source))


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"model_type": "bloom", "n_head": 2**31 - 1}, "n_head"),
        ({"model_type": "t5", "relative_attention_num_buckets": 1}, "relative_attention"),
        ({"model_type": "t5", "relative_attention_max_distance": 4}, "relative_attention"),
        (QWEN | {"model_type": "phi", "partial_rotary_factor": 0.45}, "7 channels"),
    ],
)
def test_sizes_without_golden_values_are_one_sentence(tmp_path, config, key):
    inspection = inspect_positions(written(tmp_path, config))
    with pytest.raises(ValueError, match=key):
        golden_values(inspection)


@pytest.mark.parametrize("length", [1, 2, 10**9])
@pytest.mark.parametrize("source", ["gemma3", "deepseek_v3", "qwen2_5_vl", "glm", "llama4", "mpt", "t5"])
def test_any_length_has_golden_values(tmp_path, source, length):
    values, metadata = golden_values(inspect_positions(source, length))
    (tmp_path / "golden.safetensors").write_bytes(save(values, metadata))
    assert values["positions"].tolist() == sorted({0, 1, length - 1, length, 4 * length})
    assert metadata["format"] == "poslab-positions" and metadata["length"] == str(length)
    assert check_values(source, tmp_path / "golden.safetensors")[1] is False


def test_layers_name_the_rotation_that_they_share():
    _, metadata = golden_values(inspect_positions("llama4"))
    layers = json.loads(metadata["layers"])
    assert layers[:4] == [0, 0, 0, None] and json.loads(metadata["rotations"])["0"]["pairing"] == "interleaved"


GOOD = np.ones((5, 8))
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"layers.0.cosine": GOOD}, "unknown key"),
    "layer of another model": ({"layers.99.cos": GOOD}, "layers"),
    "number of a layer": ({"layers.00000.cos": GOOD}, "unknown key"),
    "NaN": ({"layers.0.cos": GOOD * math.nan}, "finite"),
    "infinite": ({"layers.0.cos": GOOD * math.inf}, "finite"),
    "integers": ({"layers.0.cos": GOOD.astype(int)}, "floats"),
    "complex": ({"layers.0.cos": GOOD * 1j}, "floats"),
    "text": ({"layers.0.cos": np.array(["a"])}, "floats"),
    "pickle": ({"layers.0.cos": np.array([{}], dtype=object)}, "damaged"),
    "width of a vector": ({"layers.0.query": np.ones(3), "layers.0.rotated_query": np.ones((5, 16))}, "numbers"),
    "positions that are no list": ({"positions": np.ones((1, 5), int)}, "positions"),
    "positions below 0": ({"positions": np.array([-1])}, "positions"),
    "positions without end": ({"positions": np.array([2**62])}, "positions"),
    "no positions": ({"positions": np.array([], int)}, "positions"),
    "positions that are floats": ({"positions": np.ones(5)}, "integers"),
    "only positions": ({"positions": np.arange(5)}, "values to compare"),
    "nothing": ({}, "values to compare"),
    "biases of another model": ({"layers.0.alibi": GOOD}, "no known one"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_one_sentence(tmp_path, name):
    arrays, words = HOSTILE[name]
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(ValueError, match=words) as raised:
        check_values(written(tmp_path, QWEN), tmp_path / "mine.npz")
    assert "mine.npz" in str(raised.value) or "layers." in str(raised.value)
    assert "\n" not in str(raised.value)


def archive(header: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("positions.npy", header)
    return content.getvalue()


def npy(shape: str) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def header(text: str, size: int | None = None) -> bytes:
    return (len(text) if size is None else size).to_bytes(8, "little") + text.encode()


class Bomb:
    def __reduce__(self):
        return exit, (3,)


DAMAGED = {
    "empty.npz": b"",
    "text.npz": b"hello",
    "pickle.npz": pickle.dumps(Bomb()),
    "array.npz": npy("(1,)") + bytes(8),
    "zip_bomb.npz": archive(bytes(2**26)),
    "shape_bomb.npz": archive(npy("(10**15,)") + bytes(8)),
    "large_shape.npz": archive(npy("(1000000000000000,)") + bytes(8)),
    "nested.npz": archive(archive(b"x")),
    "empty.safetensors": b"",
    "header_bomb.safetensors": header("", 2**60),
    "long_header.safetensors": header("{" + " " * 2**23 + "}"),
    "no_json.safetensors": header("{"),
    "deep.safetensors": header("[" * 100_000),
    "outside.safetensors": header('{"positions":{"dtype":"I64","shape":[9],"data_offsets":[0,72]}}'),
    "overflow.safetensors": header(
        '{"positions":{"dtype":"I64","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'
    ),
    "float8.safetensors": header('{"layers.0.cos":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}') + b"0",
    "version.safetensors": save({"positions": np.arange(2)}, {"format": "poslab-positions", "version": "2"}),
    "length.safetensors": save({"positions": np.arange(2)}, {"length": "9" * 5000}),
    "zero.safetensors": save({"positions": np.arange(2)}, {"length": "0"}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_one_sentence(tmp_path, name):
    (tmp_path / name).write_bytes(DAMAGED[name])
    with pytest.raises(ValueError) as raised:
        check_values(written(tmp_path, QWEN), tmp_path / name)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 500


def test_the_command_writes_and_checks_values(tmp_path, capsys):
    source, golden = written(tmp_path, SCALED), tmp_path / "golden.safetensors"
    main([source, f"golden={golden}", "length=4096"])
    main([source, "--check", str(golden)])
    assert "differs" not in capsys.readouterr().out
    values = load_file(golden)
    np.savez(tmp_path / "mine.npz", **{"positions": [0, 1, 4095], "layers.1.cos": values["layers.0.cos"][:3] + 0.01})
    with pytest.raises(SystemExit) as exited:
        main([source, f"check={tmp_path / 'mine.npz'}"])
    lines = capsys.readouterr().out.splitlines()
    assert exited.value.code == 1 and max(map(len, lines)) <= 80
    assert any("layer 1" in line and "cos of pair 0 at position 0" in line for line in lines)
    for words in (["golden=x.txt"], ["check=x.txt"], ["--golden", "x.npz"]):
        with pytest.raises(ValueError, match="must end in"):
            main([source, *words])
    with pytest.raises(ValueError, match="got nothing"):
        main([])


def test_repeated_cosines_of_transformers_are_named(tmp_path):
    source = written(tmp_path, QWEN)
    values = golden_values(inspect_positions(source))[0]
    repeated = np.tile(values["layers.0.cos"], 2)
    np.savez(tmp_path / "mine.npz", **{"positions": values["positions"], "layers.0.cos": repeated})
    rows, differs = check_values(source, tmp_path / "mine.npz")
    assert differs and any("give each once, where transformers repeats it" in row[1] for row in rows)


def test_golden_values_need_no_torch(tmp_path):
    program = f"""
import sys
from poslab.cli.inspect import main
main([{written(tmp_path, SCALED)!r}, 'golden={tmp_path}/golden.safetensors'])
main([{str(tmp_path)!r}, 'check={tmp_path}/golden.safetensors'])
assert 'torch' not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": "src"})


def test_the_lines_of_the_guide_write_values_that_pass(tmp_path, monkeypatch):
    source, golden = model(tmp_path, SCALED, 1024)
    page = (ROOT / "docs" / "guides" / "inspect.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(from safetensors\.torch.*?)```", page, re.DOTALL)
    angles = torch.outer(torch.arange(1024.0), torch.from_numpy(golden["layers.0.inverse_frequencies"]).float())
    factor = float(golden["layers.0.attention_factor"][0])
    rope = SimpleNamespace(cos_sin_cache=factor * torch.cat([angles.cos(), angles.sin()], -1))  # as in vLLM

    def forward_native(positions: Any, *vectors: Any) -> list[Any]:
        cos, sin = rope.cos_sin_cache[positions].chunk(2, dim=-1)
        halves = [x.chunk(2, dim=-1) for x in vectors]
        return [torch.cat([a * cos - b * sin, b * cos + a * sin], -1) for a, b in halves]

    rope.forward_native = forward_native
    save_file({key: torch.from_numpy(value) for key, value in golden.items()}, tmp_path / "golden.safetensors")
    monkeypatch.chdir(tmp_path)
    exec(lines, {"rope": rope})
    rows, differs = check_values(source, Path("mine.safetensors"), 1024)
    assert not differs and dict(rows)["positions"] == "0, 1, 1,023"
