"""A GGUF file becomes a folder with exactly the numbers that it stands for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import poslab
from poslab.data import composed
from poslab.data.composed import converted
from poslab.data.tokenizers import ByteTokenizer, SubwordTokenizer, load_tokenizer
from poslab.pretrained.borrow import borrow
from tests.pretrained.tiny import some_tokens, tiny

gguf = pytest.importorskip("gguf")
pytest.importorskip("accelerate")

PLACES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
"""Parts of a layer of Llama, here and in the file."""


def in_blocks(weight: np.ndarray) -> np.ndarray:
    """The nearest numbers that blocks of 32 8-bit integers with a 16-bit scale stand for (Q8_0)."""
    blocks = weight.reshape(-1, 32)
    scale = np.abs(blocks).max(1, keepdims=True) / 127
    whole = np.round(blocks / np.where(scale == 0, 1, scale))
    return (whole * scale.astype(np.float16).astype(np.float32)).reshape(weight.shape).astype(np.float32)


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """The rows of queries or keys in the order of llama.cpp, in which the two halves of a head alternate."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


@pytest.fixture
def llama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Path]:
    """A model whose matrices fit blocks of 8 bits, and a file of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = tiny("llama", torch.float32, intermediate_size=64)
    config, file = model.config, tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(500.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    letters = ["<|endoftext|>", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL", "ab"]
    writer.add_token_list(letters)
    writer.add_token_types([3, *[1] * (len(letters) - 1)])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    whole = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    for name, parameter in model.named_parameters():
        owner, weight = name.removesuffix(".weight"), parameter.detach().numpy().copy()
        if owner in whole:
            place = whole[owner]
        else:
            _, _, layer, part = owner.split(".", 3)
            place = f"blk.{layer}.{PLACES[part]}"
        if weight.ndim == 2:
            weight = in_blocks(weight)
            parameter.data = torch.from_numpy(weight.copy())
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(place.split(".")[-1])
        stored = weight if heads is None else interleaved(weight, heads)
        if weight.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(f"{place}.weight", gguf.quants.quantize(stored, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{place}.weight", stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model, file


def test_the_folder_holds_the_numbers_and_the_tokens_of_the_file(llama):
    model, file = llama
    folder = converted(file)
    tokens = some_tokens()
    with torch.no_grad():
        expected = model(tokens).logits
        logits = borrow(str(folder))(tokens)
    assert torch.allclose(logits, expected, atol=1e-4, rtol=1e-4)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode("cab").tolist() == [3, 39]
    assert tokenizer.end_id == 0


def test_it_is_written_once(llama):
    _, file = llama
    folder = converted(file)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert converted(file) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


def test_code_beside_the_file_is_neither_run_nor_offered(llama, tmp_path, monkeypatch):
    _, file = llama
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("builtins.input", lambda question: "y")
    (tmp_path / "evil.py").write_text("raise SystemExit('run')")
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["evil.Tokenizer", null]}}')
    copied = Path(shutil.copy(file, tmp_path / "copied.gguf"))
    try:
        assert load_tokenizer(converted(copied)).end_id == 0
    except ValueError as refused:
        assert "custom code" in str(refused)


def test_a_file_that_is_not_one_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "odd.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ValueError, match=r"^path=.*odd.gguf is damaged: "):
        converted(tmp_path / "odd.gguf")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("encoding", "values"),
    [
        ("rope_linear", {"factor": 2.0}),
        ("yarn", {"factor": 4.0, "training_length": 16}),
        ("llama3", {"factor": 4.0, "training_length": 16}),
        ("rotary_proportional", {"proportion": 0.5}),
    ],
)
def test_a_scaling_of_which_transformers_reads_only_the_base_is_read(encoding, values, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model, ids = tiny("llama", torch.float32), some_tokens(length=20)
    tokenizer = SubwordTokenizer.train([["A list is a list of tables. " * 20]], 280)
    model.resize_token_embeddings(tokenizer.vocab_size, mean_resizing=False)
    with torch.no_grad():
        plain = model(ids).logits
        poslab.exchange(model, encoding, **values)
        expected = model(ids).logits
        poslab.export(model, tmp_path / "scaled.gguf", tokenizer=tokenizer)
        logits = borrow(str(converted(tmp_path / "scaled.gguf")))(ids)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits, plain, rtol=1e-2, atol=1e-2)


def test_a_scaling_that_no_class_reads_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model, file = tiny("llama", torch.float32), tmp_path / "scaled.gguf"
    poslab.exchange(model, "rope_linear", factor=2.0)
    poslab.export(model, file)
    file.write_bytes(file.read_bytes().replace(b"linear", b"magics"))
    with pytest.raises(ValueError, match=r"^path=.*has a rotation that transformers does not read \(magics\)"):
        converted(file)


def test_a_file_that_lacks_weights_is_refused(llama):
    _, file = llama
    file.write_bytes(file.read_bytes().replace(b"blk.1.attn_q.weight", b"blk.9.attn_q.weight"))
    with pytest.raises(ValueError, match=r"^path=.*it lacks model\.layers\.1\.self_attn\.q_proj\.weight"):
        converted(file)


def test_an_adapter_beside_the_file_is_not_read(llama):
    model, file = llama
    file.with_name("adapter_config.json").write_text('{"base_model_name_or_path": "/nowhere", "peft_type": "LORA"}')
    with torch.no_grad():
        logits = borrow(str(converted(file)))(some_tokens())
        torch.testing.assert_close(logits, model(some_tokens()).logits, rtol=1e-4, atol=1e-4)


def test_a_panic_of_tokenizers_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = tiny("llama", torch.float32)
    model.resize_token_embeddings(257, mean_resizing=False)
    poslab.exchange(model, "rotary")
    poslab.export(model, tmp_path / "bytes.gguf", tokenizer=ByteTokenizer())  # with a pair that no token is
    with pytest.raises(ValueError, match=r"^path=.*cannot be read by transformers: "):
        converted(tmp_path / "bytes.gguf")


@pytest.mark.parametrize(
    ("base", "scaling", "is_read"), [(1e4, "none", True), (1e4, "linear", False), (1e5, "none", False)]
)
def test_bases_of_layers_with_a_window_are_those_of_the_class_or_refused(base, scaling, is_read, monkeypatch, tmp_path):
    keys = {"general.architecture": "gemma3", "gemma3.block_count": 2, "gemma3.rope.freq_base": 1e6}
    keys |= {"gemma3.rope.freq_base_swa": base, "gemma3.rope.scaling.type": scaling, "gemma3.rope.scaling.factor": 8.0}
    monkeypatch.setattr("poslab.io.gguf.read_gguf", lambda _: (keys, {}))
    if is_read:
        assert composed._scaled_rotation(tmp_path / "m.gguf") is None
    else:
        with pytest.raises(ValueError, match="a rotation that transformers does not read"):
            composed._scaled_rotation(tmp_path / "m.gguf")
