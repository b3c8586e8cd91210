"""What a pretrained model cannot do is refused in one sentence, before anything slow or unsafe."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, DynamicCache, EncoderDecoderCache

import poslab
from poslab.encodings import (
    Alibi,
    Cape,
    LayerPattern,
    Learned,
    NoPosition,
    PaTH,
    PretrainedPositions,
    Rotary,
    Sinusoidal,
    T5Bias,
)
from poslab.encodings.rotary.yarn import yarn
from poslab.models import Decoder
from poslab.pretrained.borrow import borrow, exchange
from poslab.pretrained.directory import configuration
from poslab.pretrained.hosted import HostedModel
from poslab.pretrained.proof import family_of
from poslab.training.checking import check as checked
from tests.pretrained.tiny import ROWS, some_tokens, tiny, tiny_config
from tests.stacked import stacked
from tests.training.runs import CONF, composed

IDS = some_tokens()
LINEAR = {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}
LONGROPE = LINEAR | {"rope_type": "longrope", "original_max_position_embeddings": 12}
LONGROPE |= {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
MASK = "attention_mask must be (batch, 11), 0 at padding"


def refused(beginning: str, *parts: str):
    """An error that begins so, and contains the parts one after another."""
    return pytest.raises(ValueError, match="^" + ".*".join(map(re.escape, (beginning, *parts))))


def change_configuration(folder: Path, change: dict) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny("llama", torch.float32).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters", "eos_token_id"])
def test_a_configuration_with_an_enormous_list_is_refused_before_transformers_reads_it(folder, key):
    factors = [1.0] * 10_001
    change_configuration(folder, {key: factors if key == "eos_token_id" else {"long_factor": factors}})
    with pytest.raises(ValueError, match=r"config\.json .*10,001"):
        configuration(str(folder))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2])
def test_quantised_weights_that_do_not_say_so_are_refused(dtype, folder):
    key = "model.norm.weight"
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {key: weights[key].to(dtype)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=f"{key} is [IUF]8"):
        configuration(str(folder))


def test_symbolic_links_are_refused(folder):
    (folder / "tokenizer.json").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match=r"tokenizer\.json is a symbolic link"):
        configuration(str(folder))


def test_a_family_without_a_descriptor_or_a_proof_is_refused_with_the_reason():
    with refused("model of type bloom is not supported", "attention function"):
        family_of(AutoConfig.for_model("bloom"))


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("bert", "is_decoder", True),
        ("bert", "position_embedding_type", "relative_key"),
        ("gpt2", "add_cross_attention", True),
        ("gemma", "use_bidirectional_attention", True),
        ("llama", "is_causal", False),
    ],
)
def test_what_changes_attention_without_a_counterpart_is_refused(name, key, value):
    config = tiny_config(name)
    setattr(config, key, value)
    with refused(f"model must not have {key}={value!r}"):
        family_of(config)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"attention_mask": torch.ones(2, 1, 11, 11)}, f"{MASK}, got (2, 1, 11, 11)"),
        ({"attention_mask": torch.ones(2, 9)}, f"{MASK}, got (2, 9)"),
        ({"attention_mask": {"full_attention": torch.ones(2, 1, 11, 11)}}, f"{MASK}, got (2, 1, 11, 11)"),
        ({"position_ids": torch.arange(11)[None] + 1}, "position_ids must count"),
        ({"is_causal": False}, "is_causal must be True"),
        ({"cache": EncoderDecoderCache(DynamicCache(), DynamicCache())}, "cache must be one of transformers"),
    ],
)
def test_arguments_without_a_counterpart_are_refused(given, message):
    model = tiny("llama")
    exchange(model, Rotary)
    with refused(message):
        model(IDS, **given)


@pytest.mark.parametrize("encoding", [PaTH, Alibi, Rotary])
@pytest.mark.parametrize("before", [PretrainedPositions, NoPosition])
def test_a_cache_that_was_filled_under_other_positions_is_refused(before, encoding):
    model, cache = tiny("llama"), DynamicCache()
    exchange(model, before)
    model(IDS, cache=cache)
    exchange(model, encoding)
    with refused("cache must be empty", "same encoding"):
        model(IDS, cache=cache)


def test_a_cache_of_the_untouched_model_is_read_under_its_own_positions():
    model, cache = tiny("llama"), DynamicCache()
    expected = model(torch.cat([IDS, IDS], dim=1)).logits[:, IDS.shape[1] :]
    model(IDS, cache=cache)
    exchange(model, PretrainedPositions)
    torch.testing.assert_close(model(IDS, cache=cache).logits, expected, rtol=0, atol=1e-4)


def test_an_attention_function_that_knows_no_encoding_is_refused():
    model = tiny("llama")
    exchange(model, Alibi)
    model.set_attn_implementation("sdpa")
    with refused("attn_implementation", "must stay poslab, got sdpa"):
        model(IDS)


def test_embeddings_alone_are_refused_where_position_is_mixed_into_them():
    model = tiny("llama")
    embedded = model.get_input_embeddings()(IDS)
    exchange(model, Sinusoidal)
    with refused("input_ids must be given"):
        model(inputs_embeds=embedded)
    exchange(model, T5Bias)
    torch.testing.assert_close(model(inputs_embeds=embedded).logits, model(IDS).logits)


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "opt"])
def test_a_text_beyond_the_learned_rows_is_refused(name):
    model, long = tiny(name), some_tokens(1, ROWS + 1)
    with refused("encoding=pretrained ends", f"{ROWS} positions, got {ROWS + 1}"):
        borrow(model)(long)
    assert borrow(model).max_length == ROWS
    exchange(model, PretrainedPositions)
    with refused("encoding=pretrained ends", f"{ROWS} positions"):
        model(long)
    exchange(model, partial(Learned, max_length=7))
    with pytest.raises(ValueError, match="7"):
        model(long)


def test_encodings_that_do_not_suit_the_model_are_refused():
    with refused("encoding PaTH is causal"):
        borrow(tiny("bert"), PaTH)
    with refused("encoding must be pretrained", "all layers"):
        borrow(tiny("llama"), LayerPattern([PretrainedPositions, NoPosition]))
    with refused("encoding must be", "LayerPattern", "got 3"):
        exchange(tiny("llama"), 3)
    with refused("positions must be integers"):
        borrow(tiny("bert"), positions=Cape())
    with refused("attention must not be flash", "T5Bias"):
        exchange(tiny("llama"), T5Bias, attention="flash")


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        (partial(Rotary, bass=3.0), "Rotary has no argument bass"),
        (partial(Rotary, scaling=partial(yarn, factr=4.0)), "yarn has no argument factr"),
    ],
)
def test_an_argument_that_an_encoding_does_not_have_is_refused_by_its_name(encoding, message):
    with refused(message):
        exchange(tiny("llama"), encoding)


@pytest.mark.parametrize("use", [borrow, exchange])
def test_what_is_not_a_model_of_transformers_is_refused(use):
    for other in (torch.nn.Linear(2, 2), borrow(tiny("llama"))):
        with refused("model must be", f"got {type(other).__name__}"):
            use(other, NoPosition)


@pytest.mark.parametrize("encoding", ["pretrained", PretrainedPositions, Alibi])
def test_a_borrowed_model_is_refused_after_its_positions_were_exchanged_again(encoding, tmp_path):
    model = tiny("llama")
    borrowed = borrow(model, Sinusoidal)
    exchange(model, encoding)
    for use in (lambda: borrowed(IDS), lambda: poslab.export(borrowed, tmp_path / "made")):
        with refused("model is no longer"):
            use()


def test_a_refused_exchange_leaves_the_model_as_it_was():
    model = tiny("llama")
    expected = model(IDS).logits
    with pytest.raises(ValueError):
        exchange(model, T5Bias, attention="flash")
    assert torch.equal(model(IDS).logits, expected)


def test_a_model_of_ours_has_no_positions_of_its_own():
    with refused("encoding=pretrained", "needs model=pretrained"):
        stacked(Decoder, 40, PretrainedPositions, 32, 2, 4)


@pytest.mark.parametrize("path", [None, 3, "", "/nowhere/at/all", "../nothing", "~/nothing", "a/b/c", "/" + "a" * 300])
def test_a_path_that_is_no_folder_and_no_name_is_refused(path):
    with refused("path must be a folder"):
        configuration(path)


def test_a_model_is_borrowed_from_a_path_or_below_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    logits = borrow(str(folder))(IDS)
    assert torch.equal(borrow(folder)(IDS), logits)
    assert torch.equal(borrow("~/llama")(IDS), logits)


def test_a_folder_that_holds_no_model_is_refused(folder):
    (folder / "config.json").rename(folder / "other.json")
    with refused(f"path={folder} has", "no config.json"):
        configuration(str(folder))


def test_weights_that_can_hold_code_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with refused(f"path={folder} must contain", "pytorch_model.bin could run code"):
        configuration(str(folder))


def test_a_snapshot_in_the_cache_of_the_hub_is_read(folder):
    snapshot, blobs = folder / "snapshots" / "0123", folder / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).rename(blobs / f"{name} by its hash")
        (snapshot / name).symlink_to(f"../../blobs/{name} by its hash")
    assert configuration(str(snapshot)).model_type == "llama"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_file_is_refused(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=re.escape(str(folder))) as error:
        borrow(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(folder, number):
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = number
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with refused(f"path={folder} is damaged", "model.norm.weight"):
        borrow(str(folder))


@pytest.mark.parametrize("change", [{"num_key_value_heads": 0}, {"vocab_size": -1}, {"hidden_act": "none such"}])
def test_a_configuration_of_which_no_model_can_be_made_is_refused_without_weights_too(change, folder):
    change_configuration(folder, change)
    with refused(f"path={folder} cannot be read by transformers"), torch.device("meta"):
        HostedModel(PretrainedPositions, str(folder))


def test_code_of_the_folder_is_not_run(folder):
    (folder / "evil.py").write_text("raise SystemExit('run')")
    code = {"auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    change_configuration(folder, code)
    borrow(str(folder))
    (folder / "config.json").write_text(json.dumps({"model_type": "evil"} | code))
    with refused(f"path={folder} cannot be read by transformers"):
        borrow(str(folder))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"a": "pytorch_model.bin"}, "index.json names 'pyt"),
        ({"a": 5}, "index.json names 5"),
        ({"a": "x" * 300 + ".safetensors"}, "index.json names xxx"),
        ({"a": "../model.safetensors"}, "index.json names ../model.safetensors"),
        ({}, "index.json must have metadata"),
    ],
)
def test_an_index_that_names_other_files_than_weights_in_safetensors_beside_it_is_refused(parts, message, folder):
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": parts}))
    with refused(f"path={folder} ", message):
        configuration(str(folder))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"num_hidden_layers": 10**9}, ["num_hidden_layers must be at most 1,000"]),
        ({"num_labels": 10**9}, ["num_labels must be at most 100,000"]),
        ({"text_config": {"num_labels": 10**9}}, ["num_labels must be at most 100,000"]),
        ({"vocab_size": 10**8}, ["a model of 3,200,"]),
        ({"num_hidden_layers": 1}, ["no layer", "model.layers.1."]),
        ({"num_hidden_layers": 3}, ["weights lack model.layers.2."]),
        ({"hidden_size": 64}, ["lm_head.weight has shape (40, 32)", "says (40, 64)"]),
        ({"intermediate_size": 50}, ["down_proj.weight has shape (32, 48)", "says (32, 50)"]),
        ({"vocab_size": 30}, ["lm_head.weight has shape (40, 32)", "says (30, 32)"]),
        ({"vocab_size": "x"}, ["transformers: Validation error", "'vocab_size': TypeError: "]),
        ({"hidden_act": "x"}, ["transformers: KeyError: 'x'"]),
    ],
)
def test_a_configuration_that_is_not_that_of_the_weights_is_refused_by_what_differs(change, parts, folder):
    change_configuration(folder, change)
    with refused(f"path={folder} ", *parts):
        borrow(str(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_position_embeddings": 0}, "model must have positions"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 0.0}}, "model must have a positive rope_theta"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": "x"}}, "model must have a positive rope_theta"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": []}}, "model must have a positive rope_theta"),
        ({"rope_parameters": LINEAR | {"factor": [1.0]}}, "model must have a positive factor"),
        ({"rope_parameters": LINEAR | {"partial_rotary_factor": 1.5}}, "model must have a partial_rotary_factor of at"),
        ({"rope_parameters": LONGROPE | {"attention_factor": "x"}}, "model must have a positive attention_factor"),
        ({"rope_parameters": LONGROPE | {"long_factor": []}}, "model must have a short_factor and a long_factor"),
        ({"text_config": 3}, "path="),
    ],
)
def test_positions_that_are_none_are_refused(change, message, folder):
    change_configuration(folder, change)
    with refused(message):
        borrow(str(folder))


def test_weights_in_halves_and_integers_beside_weights_are_read(folder):
    weights = {name: weight.bfloat16() for name, weight in load_file(folder / "model.safetensors").items()}
    ids = {"model.position_ids": torch.arange(ROWS)}
    save_file(weights | ids, folder / "model.safetensors", {"format": "pt"})
    assert borrow(str(folder))(IDS).isfinite().all()


def test_an_adapter_beside_the_weights_is_refused(folder):
    (folder / "adapter_config.json").write_text("{}")
    with refused(f"path={folder} must contain", "adapter_config.json"):
        borrow(str(folder))


def test_a_folder_that_may_not_be_read_is_refused(folder, monkeypatch):
    def denied(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    with refused(f"path={folder} cannot be read: Permission denied"):
        configuration(str(folder))


def test_without_transformers_the_extra_is_named(monkeypatch, folder):
    from poslab.pretrained import directory

    monkeypatch.setattr(directory, "version", lambda name: "4.50.0")
    with refused("model=pretrained needs transformers", "got 4.50.0"):
        configuration(str(folder))
    with refused("poslab.exchange needs transformers"):
        poslab.exchange(tiny("llama"), NoPosition)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=pretrained"], "model.path must be a folder"),
        (["model=pretrained", "model.path="], "model.path must be a folder"),
        (["model=pretrained", f"model.path=/{'a' * 300}"], "model.path must be a folder"),
        (["model=pretrained", "model.path='~no-such-user/x'"], "model.path must be a folder"),
        (
            ["model=pretrained", "model.path=DIR", "dataset=parity"],
            "dataset must be one of",
        ),
        (
            ["model=pretrained", "model.path=DIR", "dataset.tokenizer=bytes"],
            "dataset.tokenizer must belong to",
        ),
        (["encoding=pretrained"], "encoding=pretrained keeps"),
    ],
)
def test_choices_that_do_not_go_together_are_refused(words, message, folder):
    (folder / "tokenizer.json").write_text("{}")
    with refused(message):
        checked(composed(*(word.replace("DIR", str(folder)) for word in words)))


def test_a_folder_without_a_tokenizer_says_how_to_get_one(folder):
    for words in ([], [f"dataset.tokenizer={folder / 'config.json'}"]):
        with refused(f"model.path={folder} must have a tokenizer.json"):
            composed("model=pretrained", f"model.path={folder}", *words)


def test_importing_poslab_or_composing_does_not_import_transformers():
    code = f"""
import sys
import poslab, poslab.pretrained.hosted
from hydra import compose, initialize_config_dir
from poslab.data.composed import resolved
with initialize_config_dir({str(CONF)!r}, version_base="1.3"):
    resolved(compose("train"))
assert "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_serving_and_exporting_are_imported_without_transformers():
    code = """
import sys
import torchmetrics  # which imports transformers where it is installed
sys.modules["transformers"] = None
import poslab.runs.loading
"""
    subprocess.run([sys.executable, "-c", code], check=True)
