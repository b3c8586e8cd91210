"""GGUF files for llama.cpp: rotations as our own reader finds them, and logits as llama.cpp computes them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

import poslab
from poslab.data.tokenizers import ByteTokenizer, SubwordTokenizer
from poslab.encodings import Alibi, LogN, Rotary
from poslab.encodings.rotary.longrope import longrope
from poslab.encodings.rotary.scalings import llama3, rope_dynamic_ntk, rope_linear, rope_ntk, rotary_proportional
from poslab.encodings.rotary.yarn import yarn
from poslab.models import Decoder, StackConfig
from tests.pretrained.tiny import tiny

TRAINED = 64
ROTATIONS = {
    "base": Rotary,
    "interleaved": partial(Rotary, layout="interleaved", base=500.0),
    "linear": partial(Rotary, scaling=partial(rope_linear, factor=4.0)),
    "ntk": partial(Rotary, scaling=partial(rope_ntk, factor=4.0)),
    "yarn": partial(Rotary, scaling=partial(yarn, factor=4.0, training_length=TRAINED)),
    "yarn_factor": partial(Rotary, scaling=partial(yarn, factor=4.0, training_length=TRAINED, attention_factor=1.0)),
    "yarn_betas": partial(
        Rotary, scaling=partial(yarn, factor=4.0, training_length=TRAINED, beta_fast=1.5, beta_slow=0.1)
    ),
    "llama3": partial(Rotary, scaling=partial(llama3, factor=4.0, training_length=TRAINED)),
    "proportional": partial(Rotary, scaling=partial(rotary_proportional, proportion=0.5)),
    "partial": partial(Rotary, fraction=0.5),
}
LONGROPE = {"short_factors": [1.0] * 8, "long_factors": [2.0] * 8, "factor": 2.0}
SPECTRUM = ("yarn_betas", "llama3", "proportional", "partial")
"""Rotations that only Llama has in llama.cpp: frequency by frequency."""


def decoder(encoding, *, vocab_size=257, **changes) -> Decoder:
    torch.manual_seed(3)
    stack = {"d_model": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 16} | changes
    model = Decoder(StackConfig(encoding=encoding, **stack), vocab_size, tie_embeddings=False).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.RMSNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.2)
    return model


@pytest.mark.parametrize("name", ROTATIONS)
@pytest.mark.parametrize("form", ["llama", "qwen3"])
def test_the_rotation_of_a_file_is_that_of_the_model(form, name, tmp_path):
    model, file = decoder(ROTATIONS[name], qk_norm=form == "qwen3"), tmp_path / "model.gguf"
    if form == "qwen3" and name in SPECTRUM:
        with pytest.raises(ValueError, match=r"qwen3 of llama\.cpp has a base, linear and YaRN"):
            poslab.export(model, file, length=TRAINED)
        assert not list(tmp_path.iterdir())
        return
    exported = poslab.export(model, file, length=TRAINED)
    assert exported.architecture == form
    rotary = model.encodings.layer(0)
    frequencies, factor = rotary.scaled_frequencies(2 * TRAINED)
    (rope, *_) = [layer.rope for layer in poslab.inspect_positions(str(file)).layers]
    ours = np.pad(frequencies.numpy(), (0, 8 - len(frequencies)))
    np.testing.assert_allclose(rope.frequencies(2 * TRAINED), ours, rtol=1e-6, atol=1e-13)
    assert rope.attention_factor == pytest.approx(factor, rel=1e-6)


@pytest.mark.parametrize(
    ("encoding", "changes", "message"),
    [
        (Alibi, {}, "only Llama, Mistral, Qwen3 and Gemma"),
        (Rotary, {"window": 16}, "no windows"),
        (partial(Rotary, scaling=partial(rope_dynamic_ntk, factor=2.0, training_length=TRAINED)), {}, "changes with"),
        (partial(Rotary, scaling=partial(longrope, training_length=TRAINED, **LONGROPE)), {}, "changes with"),
    ],
)
def test_what_llama_cpp_has_not_is_one_sentence(encoding, changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        poslab.export(decoder(encoding, **changes), tmp_path / "model.gguf", length=TRAINED)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama", {"hidden_act": "gelu"}, "llama of llama.cpp has hidden_act=silu, not gelu"),
        ("gemma", {"hidden_act": "silu"}, "gemma of llama.cpp has hidden_act=gelu_pytorch_tanh, not silu"),
        ("qwen3", {"attention_bias": True}, r"has no weight model\.layers\.0\.self_attn\.q_proj\.bias in this class"),
    ],
)
def test_layers_that_llama_cpp_has_not_are_one_sentence(name, changes, message, tmp_path):
    model = tiny(name, torch.float32, **changes)
    poslab.exchange(model, Rotary)
    with pytest.raises(ValueError, match=message):
        poslab.export(model, tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


def test_a_pretrained_model_under_more_than_a_rotation_is_one_sentence(tmp_path):
    model = tiny("llama", torch.float32)
    poslab.exchange(model, Rotary, temperature=LogN)
    with pytest.raises(ValueError, match="only Llama, Mistral, Qwen3 and Gemma: it is a PoslabLlama"):
        poslab.export(model, tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


def logits_of_llama_cpp(file, ids: list[int], length: int) -> np.ndarray:
    """The logits of all tokens, (T, V), in float32 on the CPU."""
    from llama_cpp import Llama

    model = Llama(str(file), n_ctx=length, n_batch=length, n_ubatch=length, logits_all=True, verbose=False, n_threads=2)
    model.eval(ids)
    return np.array(model.scores[: len(ids)])


@pytest.mark.needs("llama_cpp")
@pytest.mark.parametrize("name", ROTATIONS)
@pytest.mark.parametrize("form", ["llama", "qwen3"])
def test_llama_cpp_computes_our_logits(form, name, tmp_path):
    """At one token, the training length and twice that: attention in float16 of its cache explains 1%."""
    if form == "qwen3" and name in SPECTRUM:
        pytest.skip("llama.cpp has no tensor of frequencies there")
    model, file = decoder(ROTATIONS[name], qk_norm=form == "qwen3"), tmp_path / "model.gguf"
    poslab.export(model, file, length=TRAINED, tokenizer=ByteTokenizer())
    for length in (1, TRAINED, 2 * TRAINED):
        ids = torch.randint(256, (1, length), generator=torch.Generator().manual_seed(length))
        with torch.no_grad():
            ours = model(ids)[0].numpy()
        theirs = logits_of_llama_cpp(file, ids[0].tolist(), 2 * TRAINED)
        assert np.abs(theirs - ours).max() < 0.01 * np.abs(ours).max(), length


@pytest.mark.needs("llama_cpp")
def test_llama_cpp_computes_the_logits_of_gemma(tmp_path):
    model, file = tiny("gemma", torch.float32), tmp_path / "model.gguf"
    poslab.exchange(model, "yarn", factor=2)
    poslab.export(model, file)
    ids = torch.randint(3, 40, (1, 20))
    with torch.no_grad():
        ours = model(ids).logits[0].numpy()
    theirs = logits_of_llama_cpp(file, ids[0].tolist(), 32)
    assert np.abs(theirs - ours).max() < 0.01 * np.abs(ours).max()


@pytest.mark.needs("llama_cpp")
@pytest.mark.parametrize("kind", ["bytes", "subwords"])
def test_llama_cpp_has_the_tokens_of_a_text(kind, tmp_path):
    from llama_cpp import Llama

    text = "A list is a  list of 12 tables, isn't it?\n\tnaïve 你好"
    tokenizer = ByteTokenizer() if kind == "bytes" else SubwordTokenizer.train([[text * 20]], 300)
    file = tmp_path / "model.gguf"
    poslab.export(decoder(Rotary, vocab_size=tokenizer.vocab_size), file, length=TRAINED, tokenizer=tokenizer)
    model = Llama(str(file), vocab_only=True, verbose=False)
    assert model.tokenize(text.encode(), add_bos=False) == tokenizer.encode(text).tolist()
