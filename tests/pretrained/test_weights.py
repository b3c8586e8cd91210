"""Weights as people have them: in shards, on a disk, quantised or with adapters; and caches of every kind."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, TorchAoConfig

import poslab
from poslab.encodings import Alibi, T5Bias
from poslab.pretrained.discovery import VOCABULARY, tiny_config, tiny_model
from tests.pretrained.hosted import greedy
from tests.pretrained.tiny import left_padded, some_tokens, tiny

NAMES = ("model.embed_tokens", "model.layers.0", "model.norm", "model.rotary_emb", "lm_head")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A model of two layers in files of 20 kB, as wide as a block of 4-bit weights."""
    folder = tmp_path_factory.mktemp("shards")
    model = tiny("qwen3", torch.float32, hidden_size=64, intermediate_size=64)
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    return str(folder)


def quantised(kind: str) -> dict:
    if kind == "torchao":
        from torchao.quantization import Int8WeightOnlyConfig

        return {"quantization_config": TorchAoConfig(Int8WeightOnlyConfig())}
    return {"quantization_config": BitsAndBytesConfig(**{kind: True}), "device_map": "cpu"}


@pytest.mark.parametrize(
    "kind",
    [
        "shards",
        "disk",
        "bfloat16",
        pytest.param("torchao", marks=pytest.mark.needs("torchao")),
        pytest.param("load_in_8bit", marks=pytest.mark.needs("bitsandbytes")),
        pytest.param("load_in_4bit", marks=pytest.mark.needs("bitsandbytes")),
    ],
)
def test_every_kind_of_weights_runs_under_its_own_and_another_encoding(kind, folder, tmp_path):
    options = {
        "shards": {"device_map": "auto"},
        "disk": {
            "device_map": {**dict.fromkeys(NAMES, "cpu"), "model.layers.1": "disk"},
            "offload_folder": str(tmp_path),
        },
        "bfloat16": {"dtype": torch.bfloat16},
    }
    model = AutoModelForCausalLM.from_pretrained(folder, **(options[kind] if kind in options else quantised(kind)))
    with torch.no_grad():
        own = model(some_tokens()).logits
        poslab.exchange(model, "rotary")
        tolerance = 0.02 if kind == "bfloat16" else 1e-5
        assert (model(some_tokens()).logits - own).norm() < tolerance * own.norm()
        poslab.exchange(model, Alibi)
        assert (model(some_tokens()).logits - own).norm() > 0.1 * own.norm()
        assert torch.equal(model.generate(**greedy()), model.generate(**greedy(use_cache=False)))
        poslab.exchange(model, "pretrained")
        torch.testing.assert_close(model(some_tokens()).logits, own, rtol=0, atol=0)


def test_quantised_weights_are_not_trained():
    model = tiny("llama")
    model.config.quantization_config = {"quant_method": "awq"}
    with pytest.raises(ValueError, match=r"^model must have weights that are not quantised.*poslab\.exchange"):
        poslab.borrow(model, Alibi)


@pytest.mark.needs("peft")
@pytest.mark.parametrize("is_first", [True, False])
def test_adapters_and_an_encoding_learn_together_whichever_comes_first(is_first):
    from peft import LoraConfig, get_peft_model

    model = tiny("qwen3", torch.float32)
    if is_first:
        poslab.exchange(model, T5Bias)
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    if not is_first:
        poslab.exchange(adapted, T5Bias)
    adapted(input_ids=some_tokens(), labels=some_tokens()).loss.backward()
    learned = {name for name, parameter in adapted.named_parameters() if parameter.grad is not None}
    assert any("lora_" in name for name in learned)
    assert any(poslab.pretrained.borrow.MODULE in name for name in learned) != is_first  # PEFT freezes what is there
    assert torch.equal(adapted.generate(**greedy()), adapted.generate(**greedy(use_cache=False)))


@pytest.mark.parametrize("name", ["qwen3", "mistral", "gpt2", "gemma3_text", "gpt_oss", "llama4_text", "lfm3"])
@pytest.mark.parametrize("encoding", ["alibi", "path"])
def test_a_static_cache_generates_what_a_dynamic_one_does(name, encoding):
    model = tiny_model(tiny_config(AutoConfig.for_model(name)), torch.float32)
    poslab.exchange(model, encoding)
    ids, real = left_padded(some_tokens() % VOCABULARY)
    given = greedy(inputs=ids, attention_mask=real)
    for beams in (1, 3):
        dynamic = model.generate(**given, num_beams=beams)
        assert torch.equal(model.generate(**given, num_beams=beams, cache_implementation="static"), dynamic)


def test_a_compiled_step_decodes_with_a_static_cache():
    model = tiny("qwen3")
    poslab.exchange(model, Alibi)
    expected = model.generate(**greedy())
    model.forward = torch.compile(model.forward, backend="eager")
    assert torch.equal(model.generate(**greedy(cache_implementation="static")), expected)
