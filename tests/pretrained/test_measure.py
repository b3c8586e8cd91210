"""Pretrained models are evaluated, trained or not, as models of ours are."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModel, AutoModelForCausalLM

from poslab.data import tokenizers
from poslab.encodings import Alibi, CoPE, NoPosition, PretrainedPositions, Rotary, T5Bias
from poslab.evaluation.attention.maps import attention_rows, capture_attention, is_readable
from poslab.evaluation.attention.statistics import attention_statistics
from poslab.evaluation.command import PretrainedChoice, _identity, evaluate_pretrained
from poslab.evaluation.evaluation import evaluate
from poslab.evaluation.opening import open_pretrained, open_run
from poslab.evaluation.parts.encoding import content_positions
from poslab.evaluation.parts.receptive_field import receptive_field
from poslab.evaluation.settings import Request, Settings
from poslab.pretrained import directory
from poslab.pretrained.borrow import borrow
from poslab.pretrained.export.directory import copy_tokenizer
from poslab.pretrained.families import FAMILIES
from poslab.pretrained.hosted import HostedModel
from poslab.runs.directory import RunDirectory
from poslab.runs.recipe import recipe_of
from tests.pretrained.hosted import CLOSE
from tests.pretrained.test_runs import configuration
from tests.pretrained.tiny import CAUSAL, ROWS, some_tokens, tiny
from tests.training.runs import composed, run_of

LENGTH = 11


def weights_of(model, ids: torch.Tensor) -> list[torch.Tensor]:
    """The weights of each layer, (B, H, T, T), put together from blocks."""
    layers: dict[int, torch.Tensor] = {}
    for layer, start, rows in attention_rows(model, ids, rows=4):
        whole = layers.setdefault(layer, torch.zeros(*rows.shape[:2], ids.shape[1], ids.shape[1], dtype=rows.dtype))
        whole[:, :, start : start + rows.shape[2], : rows.shape[3]] = rows
    return list(layers.values())


@pytest.mark.parametrize("name", FAMILIES)
def test_attention_weights_are_those_of_the_untouched_model(name):
    model, ids = tiny(name), some_tokens(length=LENGTH)
    with torch.no_grad():
        expected = model(ids, output_attentions=True).attentions
    hosted = borrow(model)
    assert is_readable(hosted)
    found = weights_of(hosted, ids)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs.to(ours.dtype), **CLOSE)


def test_the_rotation_of_a_model_as_an_encoding_gives_the_weights_of_the_model():
    ids = some_tokens(length=LENGTH)
    own, exchanged = weights_of(borrow(tiny("llama")), ids), weights_of(borrow(tiny("llama"), Rotary), ids)
    for ours, theirs in zip(exchanged, own, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("encoding", [T5Bias, Alibi, NoPosition, CoPE])
def test_attention_under_another_encoding_has_statistics(encoding):
    model, ids = borrow(tiny("gpt2"), encoding), some_tokens(length=LENGTH)
    for weights in weights_of(model, ids):
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
        assert (weights.triu(1) == 0).all()
    assert len(attention_statistics(model, ids)) == 2 * 4
    assert (len(content_positions(model, ids[0])) > 0) == (encoding is CoPE)


def test_a_model_is_as_it_was_after_it_was_observed():
    model, ids = borrow(tiny("llama"), Alibi), some_tokens(length=LENGTH)
    with torch.no_grad():
        before = model(ids)
        reached = capture_attention(model, ids)
        assert len(reached) == 2 and torch.equal(model(ids), before)


@pytest.mark.parametrize("name", CAUSAL)
def test_the_gradient_reaches_the_embeddings_of_every_family(name):
    field = receptive_field(borrow(tiny(name)), some_tokens(length=LENGTH + 1))
    assert math.isclose(field["cumulative"].iloc[-1], 1, rel_tol=1e-6) and (field["gradient"] > 0).sum() > 2


ROPES = {
    "default": {},
    "linear": {"factor": 4.0},
    "yarn": {"factor": 4.0},
    "llama3": {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "proportional": {"partial_rotary_factor": 0.5},
}


@pytest.mark.parametrize("rope_type", ROPES)
def test_the_spectrum_of_own_positions_is_that_of_the_rotation(rope_type):
    rope = {"rope_type": rope_type, "rope_theta": 500.0, "original_max_position_embeddings": 24, **ROPES[rope_type]}
    model = tiny("llama", rope_parameters=rope)
    expected = model.model.rotary_emb.inv_freq
    own, *_ = borrow(model).encodings
    torch.testing.assert_close(own.spectrum(LENGTH), expected.to(torch.float32), rtol=1e-6, atol=1e-9)
    assert own.is_pure_rotation


def test_the_spectrum_of_a_part_of_the_channels_and_of_full_attention():
    own, *_ = borrow(tiny("gpt_neox")).encodings
    assert own.spectrum(9).shape == (1,)  # a quarter of 8 channels
    modern = tiny("modernbert")
    expected = modern.model.rotary_emb.full_attention_inv_freq
    own, *_ = borrow(modern).encodings
    torch.testing.assert_close(own.spectrum(9), expected.to(torch.float32))
    own, *_ = borrow(tiny("gpt2")).encodings
    assert own.spectrum(9) is None and not own.is_pure_rotation


def choice(folder: Path, name: str, encoding: str, *overrides: str) -> PretrainedChoice:
    words = [f"encoding={encoding}", f"dataset.sequence_length={ROWS}", *overrides]
    return PretrainedChoice(None, configuration(folder, name, *words), words)


def test_the_loss_before_any_training_is_that_of_the_untouched_model(folder):
    one = open_pretrained(*choice(folder, "llama", "pretrained")[1:], max_tokens=200)
    evaluation = evaluate([one], Settings(["extrapolation"], [2 * ROWS]))
    host = tiny_again(folder)
    text = torch.from_numpy(one.tokens.astype(np.int64))
    losses = []
    for start in range(0, len(text) - 1, ROWS):
        window = text[start : start + ROWS + 1]
        with torch.no_grad():
            logits = host(window[None, :-1]).logits[0]
        losses.append(functional.cross_entropy(logits, window[1:], reduction="none"))
    # the length that its authors trained it at has its column, though it was not typed
    assert evaluation.metrics[f"loss@{ROWS}"] == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)
    assert f"loss@{2 * ROWS}" in evaluation.metrics


def tiny_again(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder / "llama").eval()


@pytest.mark.slow
def test_a_pretrained_model_under_several_encodings_has_a_report(folder, monkeypatch):
    monkeypatch.chdir(folder)
    request = Request(lengths=[16, 48], tokens=200, output=folder / "here", device="cpu")
    evaluate_pretrained([choice(folder, "llama", name) for name in ("pretrained", "yarn", "none")], request)
    metrics = json.loads((folder / "here" / "metrics.json").read_text())
    assert {
        f"{name}/loss@{n}" for name in ("pretrained", "yarn factor=4", "none") for n in (16, ROWS, 48)
    } <= metrics.keys()
    page = (folder / "here" / "report.html").read_text()
    for title in ("Length extrapolation", "What the heads look at", "Receptive field", "Rotary diagnostics"):
        assert title in page
    assert "before any training" in page and f"texts of {ROWS} tokens" in page
    header = (folder / "here" / "per_length.csv").read_text().splitlines()[0].split(",")
    assert {"length", "stride", "windows", "tokens"} <= set(header)


def test_an_evaluation_continues_only_one_of_the_same_model_and_text(folder, tmp_path):
    made = shutil.copytree(folder / "llama", tmp_path / "copied")
    one = replace(open_pretrained(*choice(folder, "llama", "pretrained")[1:], max_tokens=200), path=made)
    request, before = Request(lengths=[16]), _identity([one], Request(lengths=[16]))
    assert _identity([one], request) == before
    assert one.text is not None
    assert _identity([replace(one, text=replace(one.text, tokens=one.tokens[::-1]))], request) != before
    config = json.loads((made / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 12_345.0
    (made / "config.json").write_text(json.dumps(config))
    assert _identity([one], request) != before


def test_numbers_of_an_encoding_that_nothing_has_trained_are_reported(folder):
    one = open_pretrained(*choice(folder, "llama", "t5")[1:])
    assert one.untrained == {"T5Bias": 32 * 4}
    assert "which no training has set" in one.warnings[0]


def test_an_encoder_predicts_masked_tokens_by_its_own_mask(folder, monkeypatch):
    monkeypatch.setattr(tokenizers, "MASK_TOKENS", ("a",))
    one = open_pretrained(*choice(folder, "bert", "pretrained")[1:])
    assert one.task.extra_tokens == 0 and one.task.mask == one.tokenizer.mask_id == one.tokenizer.encode("a")[0]
    evaluation = evaluate([one], Settings(["extrapolation"], [16]))
    assert evaluation.metrics["loss@16"] > 0


def test_an_encoder_without_a_head_has_no_predictions(folder):
    AutoModel.from_pretrained(folder / "bert").save_pretrained(folder / "bert")
    evaluation = evaluate(
        [open_pretrained(*choice(folder, "bert", "pretrained")[1:])], Settings(["extrapolation"], [10])
    )
    assert evaluation.left_out.keys() == {"extrapolation"} and "output layer" in evaluation.left_out["extrapolation"]


def test_data_that_needs_an_output_layer_is_refused_before_training(folder):
    (folder / "rows.csv").write_text("\n".join(["text,label", *(f"sea {i},{i % 2}" for i in range(60))]))
    words = ["dataset=classification_file", f"dataset.files={folder / 'rows.csv'}", "encoding=pretrained"]
    data = [f"dataset.cache_dir={folder / 'cache'}", "model=pretrained", f"model.path={folder / 'bert'}"]
    with pytest.raises(ValueError, match=r"^dataset must.*model before training"):
        open_pretrained(composed(*words, *data), words)


def test_a_trained_run_is_evaluated_beside_the_length_of_its_authors(folder):
    config = configuration(folder, "llama", "encoding=yarn", f"dataset.sequence_length={2 * ROWS}")
    run = run_of(config, folder / "run")
    one = open_run(run.path, max_tokens=200)
    evaluation = evaluate([one], Settings(lengths=[2 * ROWS]))
    assert f"loss@{ROWS}" in evaluation.metrics
    assert {"retrieval", "encoding"} >= evaluation.left_out.keys()


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """An empty cache of the hub, and no way to it."""
    from huggingface_hub import constants

    def refuse(*arguments, **named):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    return tmp_path / "hub"


def of_stranger(folder: Path, name: str) -> RunDirectory:
    """A run that names a model of the hub."""
    config = configuration(folder, "llama", "encoding=alibi")
    run = RunDirectory(folder / "theirs")
    config["model"]["path"] = name
    run.path.mkdir()
    (run.path / "config.yaml").write_text(json.dumps(config))
    return run


def test_a_run_of_somebody_else_downloads_nothing(folder, offline):
    run = of_stranger(folder, "someone/model")
    with pytest.raises(ValueError, match=r"^model\.path=someone/model is not a folder"):
        recipe_of(run)


@pytest.fixture
def cached(folder, offline) -> Path:
    """The files of someone/model in the cache of the hub."""
    place = offline / "models--someone--model"
    commit = "0" * 40
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    (place / "snapshots").mkdir()
    (folder / "llama").rename(place / "snapshots" / commit)
    (folder / "llama").symlink_to(place / "snapshots" / commit)
    return place / "snapshots" / commit


def test_the_tokenizer_of_a_model_of_the_hub_is_copied_from_the_cache(cached, tmp_path):
    (tmp_path / "made").mkdir()
    copy_tokenizer("someone/model", tmp_path / "made", 10)
    assert (tmp_path / "made" / "tokenizer.json").read_bytes() == (cached / "tokenizer.json").read_bytes()
    assert json.loads((tmp_path / "made" / "tokenizer_config.json").read_text())["model_max_length"] == 10


def test_a_model_of_the_hub_whose_index_names_a_pickle_is_refused(cached):
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "pytorch_model.bin"}}
    (cached / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"^path=someone/model.*model\.safe"):
        HostedModel(PretrainedPositions, "someone/model")


def test_a_model_of_the_hub_is_read_from_the_cache(folder, cached):
    expected = tiny_again(folder)
    assert recipe_of(of_stranger(folder, "someone/model")).task.__name__ == "LanguageModelling"
    model, ids = HostedModel(PretrainedPositions, "someone/model").eval(), some_tokens()
    with torch.no_grad():
        torch.testing.assert_close(model(ids), expected(ids).logits, atol=1e-4, rtol=1e-4)


def test_what_the_user_names_is_downloaded_without_what_can_hold_code(monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **named: asked.append((name, named)))
    directory.download("someone/model")
    ((name, named),) = asked
    assert name == "someone/model"
    patterns = named["allow_patterns"]
    assert {"config.json", "tokenizer.json", "model.safetensors.index.json", "model*.safetensors"} <= set(patterns)
    assert not any(pattern.endswith((".py", ".bin", "*")) for pattern in patterns)
