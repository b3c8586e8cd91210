"""`inspect` reads the positions of a GGUF file from its metadata, and stops at what is damaged."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poslab import inspect_positions

gguf = pytest.importorskip("gguf")


def file_of(folder: Path, architecture: str = "llama", tensors: Any = None, **keys: Any) -> Path:
    file = folder / "model.gguf"
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_context_length(131_072)
    writer.add_embedding_length(64)
    writer.add_block_count(4)
    writer.add_head_count(4)
    writer.add_rope_dimension_count(16)
    writer.add_token_list(["a", "b"])
    for name, value in keys.items():
        getattr(writer, f"add_{name}")(value)
    for name, value in (tensors or {"token_embd.weight": np.zeros((2, 64), np.float32)}).items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_base_and_yarn(tmp_path):
    keys = {"rope_freq_base": 1e6, "rope_scaling_type": gguf.RopeScalingType.YARN, "rope_scaling_factor": 4.0}
    file = file_of(tmp_path, "qwen3", **keys, rope_scaling_orig_ctx_len=32_768)
    (group,) = inspect_positions(str(file)).to_json()["groups"]
    rope = group["rope"]
    assert (rope["type"], rope["base"], rope["factor"], rope["original_length"]) == ("yarn", 1e6, 4.0, 32_768)
    assert (rope["rotary_dim"], rope["pairing"]) == (16, "half-split")


def test_the_pairs_of_an_architecture(tmp_path):
    pairs = [inspect_positions(str(file_of(tmp_path, name))).layers[0].rope for name in ("llama", "qwen2", "plamo")]
    assert [rope.pairing for rope in pairs] == ["interleaved", "half-split", None]
    assert inspect_positions(str(file_of(tmp_path, "gpt2"))).layers[0].rope is None


def test_the_tensor_of_the_rotation_divides_frequencies(tmp_path):
    divisors = np.linspace(1, 8, 8).astype(np.float32)
    tensors = {"token_embd.weight": np.zeros((2, 64), np.float32), "rope_freqs.weight": divisors}
    rope = inspect_positions(str(file_of(tmp_path, tensors=tensors, rope_freq_base=5e5))).layers[0].rope
    np.testing.assert_allclose(rope.frequencies(1), 5e5 ** (-np.arange(8) / 8) / divisors, rtol=1e-7)


def test_windows_sinks_and_soft_caps(tmp_path):
    tensors = {"blk.0.attn_sinks.weight": np.zeros(4, np.float32)}
    keys = {"sliding_window": 128, "sliding_window_pattern": [True, False, True, False]}
    layers = inspect_positions(str(file_of(tmp_path, "gpt-oss", tensors, **keys))).layers
    assert [layer.window for layer in layers] == [128, None, 128, None] and layers[0].has_sinks
    capped = inspect_positions(str(file_of(tmp_path, "gemma2", attn_logit_softcapping=50.0)))
    assert capped.layers[0].softcap == 50


def test_damaged_files_are_one_sentence(tmp_path):
    file, numbers = file_of(tmp_path), random.Random(0)
    whole = file.read_bytes()
    for _ in range(400):
        damaged = bytearray(whole[: numbers.randrange(len(whole))] if numbers.random() < 0.3 else whole)
        for _ in range(numbers.randrange(1, 9)):
            if damaged:
                damaged[numbers.randrange(len(damaged))] = numbers.choice([0, 1, 127, 255])
        file.write_bytes(damaged)
        try:
            inspect_positions(str(file))
        except ValueError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"PK\x03\x04" + bytes(100), b"GGUF\x03\0\0\0" + b"\xff" * 64])
def test_other_files_are_one_sentence(tmp_path, content):
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.gguf"):
        inspect_positions(str(tmp_path / "x.gguf"))
