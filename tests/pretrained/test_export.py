"""Decoders as directories of transformers: the same logits, the same tokens, or one sentence."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import unicodedata
from functools import partial
from typing import Any

import psutil
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import poslab
from poslab.cli.export import main
from poslab.data.tokenizers import END_OF_DOCUMENT, ByteTokenizer, SubwordTokenizer, SymbolTokenizer
from poslab.encodings import (
    Alibi,
    Cape,
    LayerPattern,
    LayerSpec,
    Learned,
    LogN,
    NoPosition,
    PaTH,
    PoPE,
    Randomized,
    Rotary,
    Shifted,
    Sinusoidal,
    T5Bias,
    XPos,
    rnope,
)
from poslab.encodings.rotary.longrope import longrope
from poslab.encodings.rotary.scalings import (
    hope,
    llama3,
    rope_dynamic_ntk,
    rope_linear,
    rope_ntk,
    rotary_proportional,
)
from poslab.encodings.rotary.yarn import yarn
from poslab.generation.decoding import generate
from poslab.generation.token_choice import Sampling
from poslab.models import Decoder, Encoder, Outputs, StackConfig
from poslab.pretrained.export import NotPlainError, directory
from poslab.pretrained.export.directory import fast_tokenizer
from poslab.pretrained.export.plain import plain_form
from poslab.runs.directory import RunDirectory
from tests.cli.running import Running, python
from tests.encoding_choices import EVERY_ENCODING, factory, quick_or_slow
from tests.training.runs import SMALL, composed, words
from tests.written_run import CONF, write_run

TRAINED = 32
"""Training length of the models here."""

VOCABULARY = 41


def decoder(encoding, vocab_size=VOCABULARY, **changes):
    """A random decoder in float64, whose norms have weights, and whose logits depend on position."""
    torch.manual_seed(3)
    stack = {"d_model": 32, "num_layers": 3, "num_heads": 4, "num_kv_heads": 2, "head_dim": 16} | changes
    tied, digits = stack.pop("tie_embeddings", True), stack.pop("digits", ())
    model = Decoder(StackConfig(encoding=encoding, **stack), vocab_size, digits=digits, tie_embeddings=tied)
    model = model.double().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.RMSNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            module.eps = torch.finfo(torch.float32).eps
    torch.nn.init.normal_(model.embedding.weight)
    return model


def in_transformers(form):
    """The model of a form, with norms that compute in its own dtype instead of float32."""
    model = AutoModelForCausalLM.from_config(form.config).double().eval()
    model.load_state_dict(form.weights)
    for name, module in list(model.named_modules()):
        if name.endswith("norm"):
            norm = torch.nn.RMSNorm(module.weight.shape, eps=module.variance_epsilon, dtype=torch.float64)
            norm.weight = module.weight
            model.set_submodule(name, norm)
    return model


def tokens(length, rows=2):
    return torch.randint(VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(length))


def largest_difference(model, theirs, lengths=(1, TRAINED - 1, TRAINED, TRAINED + 1, 5 * TRAINED)):
    with torch.no_grad():
        return max(float((model(tokens(n)) - theirs(tokens(n)).logits).abs().max()) for n in lengths)


SPECTRUM = [1.5, 2.0, 3.0, 1.0, 5.0, 7.0, 4.0, 9.0]


def stopped(inverse_frequencies):
    """A scaling of a user's own, without a name in transformers."""
    return inverse_frequencies * torch.arange(len(inverse_frequencies)) / 3, 1.25


def breathing(inverse_frequencies, length):
    """A scaling that no class of transformers has."""
    return inverse_frequencies / (1 + length % 7), 1.0


def scaled(scaling, **arguments):
    keys = {key: arguments.pop(key) for key in ("base", "fraction", "layout") if key in arguments}
    return partial(Rotary, scaling=partial(scaling, **arguments) if arguments else scaling, **keys)


ENCODINGS = {
    "rotary": (Rotary, "default"),
    "another base": (partial(Rotary, base=523.0), "default"),
    "interleaved": (partial(Rotary, layout="interleaved"), "default"),
    "a quarter": (partial(Rotary, fraction=0.25), "proportional"),
    "interleaved three eighths": (partial(Rotary, fraction=0.375, layout="interleaved", base=500.0), "proportional"),
    "none": (NoPosition, "proportional"),
    "linear": (scaled(rope_linear, factor=3.0), "linear"),
    "linear, half": (scaled(rope_linear, factor=3.0, fraction=0.5), "longrope"),
    "ntk": (scaled(rope_ntk, factor=3.5), "default"),
    "ntk, half": (scaled(rope_ntk, factor=3.5, fraction=0.5, layout="interleaved"), "proportional"),
    "dynamic ntk": (scaled(rope_dynamic_ntk, factor=2.0, training_length=TRAINED), "dynamic"),
    "yarn": (scaled(yarn, factor=4.0, training_length=TRAINED), "yarn"),
    "yarn without a factor": (scaled(yarn, factor=4.0, training_length=TRAINED, attention_factor=1), "yarn"),
    "yarn, not truncated": (
        scaled(yarn, factor=2.5, training_length=TRAINED, beta_fast=8, beta_slow=2, truncate=False),
        "yarn",
    ),
    "yarn, half": (scaled(yarn, factor=4.0, training_length=TRAINED, fraction=0.5), "longrope"),
    "yarn, so short that the ramp of transformers runs backwards": (
        scaled(yarn, training_length=2, base=50.0),
        "longrope",
    ),
    "longrope": (scaled(longrope, training_length=TRAINED, factor=4.0), "longrope"),
    "longrope, listed": (
        scaled(longrope, training_length=TRAINED, short_factors=SPECTRUM, long_factors=SPECTRUM[::-1]),
        "longrope",
    ),
    "longrope, half": (scaled(longrope, training_length=TRAINED, factor=4.0, fraction=0.5), "longrope"),
    "llama3": (scaled(llama3, training_length=TRAINED, factor=4.0), "llama3"),
    "proportional": (scaled(rotary_proportional, proportion=0.5), "proportional"),
    "hope": (scaled(hope, training_length=TRAINED), "proportional"),
    "of one's own": (scaled(stopped, layout="interleaved"), "longrope"),
}

EXACT_BITS = {"rotary", "another base", "interleaved", "none"}
"""Encodings whose frequencies are the same bits; others differ in the last ones, and by more the longer the text."""


@pytest.mark.parametrize("name", ENCODINGS)
def test_logits_are_the_same_within_and_beyond_the_training_length(name):
    encoding, rope_type = ENCODINGS[name]
    model = decoder(encoding)
    form = plain_form(model, TRAINED)
    assert form.config.architectures is None and form.config.rope_parameters["rope_type"] == rope_type
    assert largest_difference(model, in_transformers(form)) < (1e-9 if name in EXACT_BITS else 1e-5)


ARCHITECTURES = {
    "plain": (Rotary, {}, "llama"),
    "untied": (Rotary, {"tie_embeddings": False}, "llama"),
    "one key-value head": (Rotary, {"num_kv_heads": 1}, "llama"),
    "heads that do not divide the width": (Rotary, {"num_heads": 6}, "mistral"),
    "window": (Rotary, {"window": 5}, "mistral"),
    "qk_norm": (partial(Rotary, layout="interleaved"), {"qk_norm": True}, "qwen3"),
    "qk_norm of a part of the head": (partial(Rotary, fraction=0.5), {"qk_norm": True}, "qwen3"),
    "qk_norm with a window": (Rotary, {"qk_norm": True, "window": 5}, "qwen3"),
    "qk_norm with some windows": (LayerPattern([LayerSpec(Rotary, window=5), Rotary]), {"qk_norm": True}, "qwen3"),
    "shared queries": (Rotary, {"shared_query": True}, "llama"),
    "a shared part of the keys": (partial(Rotary, fraction=0.5), {"shared_key": 0.5}, "llama"),
    "rnope": (rnope(every=3), {}, "smollm3"),
    "rnope with a window": (rnope(every=2, window=5, base=700.0), {}, "smollm3"),
    "rnope, interleaved": (LayerPattern([partial(Rotary, layout="interleaved"), NoPosition]), {}, "smollm3"),
    "some windows": (LayerPattern([Rotary, LayerSpec(Rotary, window=5)]), {}, "smollm3"),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_architecture_has_its_class(name):
    encoding, changes, model_type = ARCHITECTURES[name]
    model = decoder(encoding, **changes)
    form = plain_form(model, TRAINED)
    assert form.config.model_type == model_type
    assert form.config.tie_word_embeddings == (name != "untied")
    assert largest_difference(model, in_transformers(form)) < (1e-5 if "part" in name else 1e-9)


@pytest.mark.parametrize("name", ["plain", "window", "qk_norm", "rnope with a window"])
def test_generation_is_the_same(name):
    encoding, changes, _ = ARCHITECTURES[name]
    model = decoder(encoding, **changes)
    theirs = in_transformers(plain_form(model, TRAINED))
    prompt = tokens(7)
    ours = torch.stack(list(generate(model, prompt, 30, Sampling(temperature=0.0))), dim=1)
    found = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=30, do_sample=False)
    assert torch.equal(found[:, 7:], ours)


def test_the_configuration_of_a_class_has_the_length_that_its_scaling_stretches_to():
    lengths = {
        name: plain_form(decoder(ENCODINGS[name][0]), TRAINED).config.max_position_embeddings for name in ENCODINGS
    }
    assert lengths["rotary"] == lengths["none"] == lengths["dynamic ntk"] == TRAINED
    assert lengths["yarn"] == lengths["longrope"] == lengths["llama3"] == 4 * TRAINED
    assert lengths["linear"] == 3 * TRAINED


def test_differences_in_use_are_named():
    (note,) = plain_form(decoder(Rotary, dropout=0.1), 9).notes
    assert "dropout of 0.1" in note
    for name in ("dynamic ntk", "longrope"):
        assert f"grows past {TRAINED} tokens" in plain_form(decoder(ENCODINGS[name][0]), TRAINED).notes[0]
    assert all(not plain_form(decoder(ENCODINGS[name][0]), TRAINED).notes for name in ("rotary", "yarn", "yarn, half"))


@pytest.mark.parametrize("sampler", [Shifted(), Cape()])
def test_a_sampler_of_training_alone_changes_nothing(sampler):
    model = decoder(Rotary, positions=sampler)
    assert largest_difference(model, in_transformers(plain_form(model, TRAINED))) < 1e-9


# What no class has without Poslab


UNDER_ENCODING = {
    "alibi": (Alibi, {}, "no class of transformers with these layers has Alibi"),
    "t5": (T5Bias, {}, "no class of transformers with"),
    "sinusoidal": (Sinusoidal, {}, "no class of transformers with these layers has Sinusoidal"),
    "learned": (partial(Learned, max_length=2 * TRAINED), {}, "no class of transformers with these layers has Learned"),
    "xpos": (XPos, {}, "no class of transformers with these layers has XPos"),
    "pope": (PoPE, {}, "no class of transformers with these layers has PoPE"),
    "path": (PaTH, {"qk_norm": True}, "no class of transformers with these layers has PaTH"),
    "a mixture": (LayerPattern([Rotary, Alibi]), {"window": 5}, "no class of transformers with these layers has Alibi"),
    "two bases": (
        LayerPattern([Rotary, partial(Rotary, base=9.0)]),
        {},
        "encoding must rotate in the same way",
    ),
    "dynamic ntk of a part": (
        scaled(rope_dynamic_ntk, training_length=TRAINED, fraction=0.5),
        {},
        "encoding rope_dynamic_ntk changes its frequencies with the length of the text in a way that no class",
    ),
    "a factor on a part": (
        partial(scaled(yarn, training_length=TRAINED, fraction=0.5), factor_on="rotated"),
        {},
        "an attention factor scales the whole head in this class",
    ),
    "two windows": (
        LayerPattern([LayerSpec(Rotary, window=3), LayerSpec(Rotary, window=5)]),
        {},
        "window must be the same in all layers",
    ),
    "a window of one token": (
        LayerPattern([LayerSpec(Rotary, window=1), Rotary]),
        {"qk_norm": True},
        "window must be at least 2 in a class, whose cache would show more than one token",
    ),
    "rnope with qk_norm": (rnope(every=2), {"qk_norm": True}, "qk_norm must be false in a class with layers without"),
    "a temperature": (
        Rotary,
        {"temperature": partial(LogN, training_length=TRAINED)},
        "temperature LogN multiplies the logits by the number of visible keys",
    ),
    "shared in a pattern": (
        LayerPattern([T5Bias, T5Bias, partial(T5Bias)]),
        {},
        "no class of transformers with these layers has T5Bias",
    ),
    "windows and embeddings": (
        LayerPattern([LayerSpec(Alibi, window=5), Rotary], embedding=Sinusoidal),
        {"dropout": 0.1},
        "no class of transformers with these layers has Alibi",
    ),
}
"""Encodings, changes of the decoder, and why no class has it."""


@pytest.mark.parametrize("name", UNDER_ENCODING)
@pytest.mark.usefixtures("in_this_process")
def test_what_no_class_has_is_exported_under_its_encoding(name, tmp_path):
    encoding, changes, sentence = UNDER_ENCODING[name]
    model = decoder(encoding, **changes).float()
    for parameter in model.encodings.parameters():
        parameter.data += 0.1 * torch.rand_like(parameter)
    with pytest.raises(NotPlainError) as caught:
        plain_form(model, TRAINED)
    assert str(caught.value).startswith(sentence)
    exported = poslab.export(model, tmp_path / "made", length=TRAINED)
    assert exported.needs_poslab and exported.class_name.startswith("Poslab") and exported.rope_type is None
    assert exported.notes[0] == f"It needs Poslab: {caught.value}."
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "made")
    prompt = tokens(7)
    ours = torch.stack(list(generate(model, prompt, 20, Sampling(temperature=0.0))), dim=1)
    found = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=20, do_sample=False)
    assert torch.equal(found[:, 7:], ours)


@pytest.mark.slow
@pytest.mark.parametrize("name", quick_or_slow(EVERY_ENCODING))
@pytest.mark.usefixtures("in_this_process")
def test_every_encoding_of_a_decoder_is_exported(name, tmp_path):
    model = decoder(factory(name, training_length=TRAINED), digits=tuple(range(10))).float()
    poslab.export(model, tmp_path / "made", length=TRAINED)


REFUSED = {
    "an encoding of one's own": (
        lambda: decoder(scaled(breathing)),
        "encoding breathing must be a class or a function of Poslab, with arguments by name",
    ),
    "random positions": (lambda: decoder(Rotary, positions=Randomized()), "positions Randomized moves tokens in"),
    "a window of one token": (lambda: decoder(Rotary, window=1), "window must be at least 2 to be exported"),
    "an odd head": (lambda: decoder(NoPosition, head_dim=15), "head_dim must be even to be exported, got 15"),
    "an encoder": (
        lambda: Encoder(StackConfig(encoding=Rotary, d_model=8, num_layers=1, num_heads=2), 9),
        "model must be a decoder to be exported, got Encoder",
    ),
    "a classifier": (
        lambda: Decoder(StackConfig(encoding=Rotary, d_model=8, num_layers=1, num_heads=2), 9, Outputs(3, True)),
        "model must predict tokens to be exported",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_class_could_have_is_refused(name, tmp_path):
    make, sentence = REFUSED[name]
    with pytest.raises(ValueError) as caught:
        poslab.export(make(), tmp_path / "made", length=TRAINED)
    assert str(caught.value).startswith(sentence)
    assert list(tmp_path.iterdir()) == []


# Tokenizers

TEXT = "the quick brown fox jumps over the lazy dog, naïve café 你好 12 345\n\n  indented\t"


def loaded(tokenizer, folder):
    fast_tokenizer(tokenizer, TRAINED).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def trained_bpe():
    return SubwordTokenizer.train([[TEXT * 3]], 300)


def random_texts():
    """All assigned characters of Unicode in pieces, each beside others."""
    characters = [chr(n) for n in range(0x110000) if unicodedata.category(chr(n)) not in ("Cn", "Cs", "Co")]
    order = torch.randperm(len(characters), generator=torch.Generator().manual_seed(5)).tolist()
    shuffled = "".join(characters[n] for n in order)
    return [shuffled[start : start + 5000] for start in range(0, len(shuffled), 5000)]


def test_a_tokenizer_of_bytes_has_the_same_ids_for_every_byte_and_character(tmp_path):
    theirs = loaded(ByteTokenizer(), tmp_path)
    assert len(theirs) == 257 and theirs.vocab_size == 257
    for text in [TEXT, "", *random_texts()]:
        ids = theirs(text)["input_ids"]
        assert ids == list(text.encode())
        assert theirs.decode(ids) == text
    for byte in range(256):
        whole = bytes([byte]) if byte < 128 else None
        assert theirs.decode([byte]) == (whole or b"\xff").decode(errors="replace")


def test_a_trained_tokenizer_has_the_same_ids(tmp_path, trained_bpe):
    theirs = loaded(trained_bpe, tmp_path)
    for text in [TEXT, "", *random_texts()[:5]]:
        ids = theirs(text)["input_ids"]
        assert ids == trained_bpe.encode(text).tolist()
        assert theirs.decode(ids) == trained_bpe.decode(ids)


def test_special_tokens_around_a_text_are_left_out(tmp_path, trained_bpe):
    trained_bpe.save(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    end = {"SpecialToken": {"id": END_OF_DOCUMENT, "type_id": 0}}
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [end, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {END_OF_DOCUMENT: {"id": END_OF_DOCUMENT, "ids": [0], "tokens": [END_OF_DOCUMENT]}},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    published = SubwordTokenizer.from_file(tmp_path / "tokenizer.json")
    assert loaded(published, tmp_path / "saved")(TEXT)["input_ids"] == published.encode(TEXT).tolist()


@pytest.mark.parametrize("kind", ["bytes", "trained"])
def test_a_document_that_quotes_its_end_is_text(kind, tmp_path, trained_bpe):
    ours = ByteTokenizer() if kind == "bytes" else trained_bpe
    theirs = loaded(ours, tmp_path)
    text = f"It ends with {END_OF_DOCUMENT}."
    assert theirs(text)["input_ids"] == ours.encode(text).tolist()
    assert theirs.eos_token_id == theirs.bos_token_id == theirs.pad_token_id == ours.end_id
    assert theirs.model_max_length == TRAINED


def test_symbols_are_refused():
    with pytest.raises(ValueError, match=r"^tokenizer must.*exported, got SymbolTokenizer"):
        fast_tokenizer(SymbolTokenizer(["0", "1"]), TRAINED)


# Directories


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("exported") / "run", "encoding=yarn", "model.qk_norm=true").path


@pytest.mark.usefixtures("in_this_process")
def test_a_run_becomes_a_directory_that_loads(run, tmp_path):
    exported = poslab.export(run, tmp_path / "new" / "made")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["made"]
    assert {path.name for path in exported.path.iterdir()} == {
        *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    }
    assert (exported.class_name, exported.rope_type, exported.longest) == ("Qwen3ForCausalLM", "yarn", 128)
    model = AutoModelForCausalLM.from_pretrained(exported.path)
    tokenizer = AutoTokenizer.from_pretrained(exported.path)
    ids = tokenizer("A list is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        difference = (model(ids).logits - poslab.load(run)(ids)).abs().max()
    assert difference < 1e-5
    assert (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id) == (256, 256, None)
    assert model.generation_config.pad_token_id == 256


@pytest.mark.usefixtures("in_this_process")
def test_weights_keep_their_dtype(tmp_path):
    run = write_run(tmp_path / "run", dtype=torch.bfloat16)
    poslab.export(run.path, tmp_path / "made")
    assert AutoConfig.from_pretrained(tmp_path / "made").dtype is torch.bfloat16
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "made").dtype is torch.bfloat16


@pytest.mark.usefixtures("in_this_process")
def test_a_model_is_exported_with_the_tokenizer_that_is_given(tmp_path):
    model = decoder(Rotary, vocab_size=257).float().train()
    exported = poslab.export(model, tmp_path / "alone", length=TRAINED)
    assert model.training and not list(exported.path.glob("tokenizer*"))
    (tmp_path / "made").mkdir()  # empty
    poslab.export(model, tmp_path / "made", tokenizer=ByteTokenizer(), length=TRAINED)
    assert AutoTokenizer.from_pretrained(tmp_path / "made")("ab")["input_ids"] == [97, 98]


@pytest.mark.usefixtures("in_this_process")
def test_a_directory_that_differs_is_not_left_behind(run, tmp_path, monkeypatch):
    def wrong(model, length):
        form = plain_form(model, length)
        form.config.rope_parameters["factor"] *= 1.05
        return form

    monkeypatch.setattr(directory, "plain_form", wrong)
    with pytest.raises(ValueError, match=r"^the exported.*off by up"):
        poslab.export(run, tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("in_this_process")
def test_another_tokenizer_is_not_left_behind(run, tmp_path, monkeypatch):
    monkeypatch.setattr(ByteTokenizer, "encode", lambda self, text: SubwordTokenizer.train([[TEXT]], 280).encode(text))
    with pytest.raises(ValueError, match=r"^the exported.*token ids for 'A"):
        poslab.export(run, tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_left_alone(run, tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for taken in ("made", "file", "link"):
        with pytest.raises(ValueError) as caught:
            poslab.export(run, tmp_path / taken)
        path = tmp_path / taken
        assert str(caught.value).startswith("to must name") and f"got {path}" in str(caught.value)
    assert (tmp_path / "made" / "notes.txt").read_text() == (tmp_path / "file").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_one_sentence(run, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"^to=.*file/made.*Not a directory$"):
        poslab.export(run, tmp_path / "file" / "made")
    with pytest.raises(ValueError, match=r"^to=.* cannot.*name too long$"):
        poslab.export(run, tmp_path / ("a" * 300))


def test_a_disk_that_is_full_is_one_sentence_and_leaves_nothing(run, tmp_path, monkeypatch):
    def full(form, folder, tokenizer):
        (folder / "model.safetensors").write_bytes(b"a part")
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(directory, "_save", full)
    with pytest.raises(ValueError, match=r"^to=.*/made.*left on device"):
        poslab.export(run, tmp_path / "made")
    assert not list(tmp_path.iterdir())


def test_another_version_of_transformers_is_refused(run, tmp_path, monkeypatch):
    from poslab.pretrained import directory as models_on_disk

    for version in ("4.57.1", "5.19.0", "6.0.0"):
        monkeypatch.setattr(models_on_disk, "version", lambda name, version=version: version)
        with pytest.raises(ValueError, match=f"^export needs transformers .*, got {version}: pip install "):
            poslab.export(run, tmp_path / "made")


def test_a_run_of_another_task_or_without_a_checkpoint_is_refused(tmp_path):
    unfinished = write_run(tmp_path / "run")
    unfinished.best_checkpoint.unlink()
    with pytest.raises(ValueError, match=r"^there is.*checkpoint .*best\.safetensors"):
        poslab.export(unfinished.path, tmp_path / "made")
    with pytest.raises(ValueError, match=r"^nowhere is.*no config\.yaml$"):
        poslab.export("nowhere", tmp_path / "made")
    classifier = RunDirectory(tmp_path / "classifier")
    keys = ["dataset=classification_file", "dataset.files=x.csv", "dataset.text=a", "dataset.label=b", "model=decoder"]
    classifier.start(composed(*keys), {})
    with pytest.raises(ValueError, match=r"classifier cannot.*model, and trans"):
        poslab.export(classifier.path, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_model_needs_a_length_and_a_run_has_its_own(run, tmp_path):
    with pytest.raises(ValueError, match=r"^length must.*from 2 to 1,048,576 tokens, got N"):
        poslab.export(decoder(Rotary), tmp_path / "made")
    with pytest.raises(ValueError, match=r"^tokenizer and.*leave them out$"):
        poslab.export(run, tmp_path / "made", length=5)


FORMER_KEYS: dict[str, tuple[str, dict[str, Any]]] = {
    "another base": ("4.57.1", {"rope_theta": 523.0, "rope_scaling": None}),
    "linear": ("4.57.1", {"rope_theta": 10_000.0, "rope_scaling.rope_type": "linear", "rope_scaling.factor": 3.0}),
    "yarn": ("4.57.1", {"rope_scaling.rope_type": "yarn", "rope_scaling.original_max_position_embeddings": TRAINED}),
    "longrope": ("4.57.1", {"rope_scaling.rope_type": "longrope", "original_max_position_embeddings": TRAINED}),
    "a quarter": ("5.20", {"rope_scaling.rope_type": "proportional", "rope_scaling.partial_rotary_factor": 0.25}),
}
"""Encodings of `ENCODINGS`, the earliest transformers that has them, and what it reads, keys within keys dotted."""


@pytest.mark.parametrize("name", FORMER_KEYS)
@pytest.mark.usefixtures("in_this_process")
def test_a_rotation_is_written_for_transformers_4_too(name, tmp_path):
    least, keys = FORMER_KEYS[name]
    exported = poslab.export(decoder(ENCODINGS[name][0]).float(), tmp_path / "made", length=TRAINED)
    saved = json.loads((exported.path / "config.json").read_text())
    assert (exported.least_transformers, saved["needs_transformers"]) == (least, f">={least}")
    for key, value in keys.items():
        group, _, inner = key.rpartition(".")
        assert (saved[group] if group else saved)[inner] == value
    assert saved["rope_parameters"]["rope_theta"] == saved["rope_theta"]
    loaded = AutoConfig.from_pretrained(exported.path)
    assert loaded.rope_parameters == saved["rope_parameters"]


# The command


def exported(capsys, *overrides):
    """The output of the command, run in this process."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose("export", overrides=list(overrides)))
    main(config, CONF, list(overrides))
    return capsys.readouterr().out


@pytest.mark.usefixtures("in_this_process", "own_signals")
def test_the_command_prints_the_class_and_the_largest_difference(tmp_path, capsys):
    run = write_run(tmp_path / "run", "encoding=rope_dynamic_ntk").path
    printed = exported(capsys, f"run={run}", f"to={tmp_path}/made").splitlines()
    assert printed[0].startswith(f"{tmp_path}/made loads as LlamaForCausalLM (rope_type dynamic)")
    assert re.search(r"difference of logits is \d\.\de-\d\d, .* 128 random tokens", printed[1])
    assert "grows past 64 tokens" in printed[2]
    assert "transformers 4.57.1" in printed[-1]


@pytest.fixture
def own_signals():
    """Signal handlers that are put back after the test."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("own_signals")
def test_a_command_that_is_stopped_leaves_nothing_behind(run, tmp_path, monkeypatch, capsys, number):
    monkeypatch.setattr(directory, "_load_in_fresh_process", lambda *_: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as stopped:
        exported(capsys, f"run={run}", f"to={tmp_path}/made")
    assert stopped.value.code == 128 + number
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_command_that_is_killed_leaves_no_directory_and_the_next_one_succeeds(run, tmp_path):
    command = Running(python("-m", "src.export", f"run={run}", f"to={tmp_path}/made"), tmp_path)

    def comparing() -> list[psutil.Process]:
        return [
            process
            for process in command.descendants()
            if any(word.endswith("fresh_process.py") for word in process.cmdline())
        ]

    command.wait_until(comparing, seconds=200)
    (process,) = comparing()
    command.kill()
    process.kill()
    assert not (tmp_path / "made").exists()
    assert poslab.export(run, tmp_path / "made").path.is_dir()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["to=made"], "run must name a run directory"),
        (["run=", "to=made"], "run must name a run directory"),
        (["run=nowhere"], "to must name a new directory"),
        (["run=nowhere", "to=made"], "nowhere is not a run directory"),
    ],
)
def test_a_mistake_is_one_sentence(overrides, sentence, capsys):
    with pytest.raises(ValueError) as caught:
        exported(capsys, *overrides)
    assert str(caught.value).startswith(sentence)


IN_A_FRESH_PROCESS = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = AutoModelForCausalLM.from_pretrained("made"), AutoTokenizer.from_pretrained("made")
given = tokenizer("one two", return_tensors="pt")
print(repr(tokenizer.decode(model.generate(**given, max_new_tokens=12, do_sample=False)[0])))
assert "poslab" not in sys.modules
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trained_run_is_exported_and_continues_a_text_as_here(tmp_path):
    (tmp_path / "text.txt").write_text(words(1200))
    small = [*SMALL, "dataset.files=text.txt", "dataset.cache_dir=cache"]
    overrides = [*small, "encoding=yarn", "encoding.factor=2", "dataset.tokenizer=bpe", "dataset.vocab_size=280"]
    trained = Running(python("-m", "src.train", *overrides, "hydra.run.dir=run"), tmp_path).wait(120)
    assert trained.status == 0, trained.errors
    ended = Running(python("-m", "src.export", "run=run", "to=made"), tmp_path).wait(300)
    assert (ended.status, ended.errors) == (0, "")
    assert ended.output.startswith("made loads as LlamaForCausalLM (rope_type yarn), without remote code.\n")
    theirs = Running([sys.executable, "-c", IN_A_FRESH_PROCESS], tmp_path).wait(120)
    ours = ["-m", "src.generate", "run=run", "prompt=one two", "temperature=0", "max_new_tokens=12"]
    text = Running(python(*ours), tmp_path).wait(120).output
    assert theirs.output == repr(text.removesuffix("\n")) + "\n"
    again = Running(python("-m", "src.export", "run=run", "to=made"), tmp_path).wait(300)
    assert again == (2, "", "error: to must name a new or empty directory, got made, which is there\n")
