"""Runs in which some weights learn: what they change, keep, resume from, begin with and give to others."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import poslab
from poslab.evaluation.evaluation import evaluate
from poslab.evaluation.opening import open_run
from poslab.evaluation.scores.measure import measure
from poslab.evaluation.settings import Settings
from poslab.generation.decoding import generate
from poslab.generation.token_choice import Sampling
from poslab.models.adaptation import merged
from poslab.runs.checkpoint import load_checkpoint
from poslab.runs.directory import RunDirectory
from poslab.training.checking import check
from poslab.training.fit import run_test
from tests.training.runs import assert_resumes, composed, recorded, run_of, small, weights

LORA = ("adapt=lora", "adapt.rank=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapt")


@pytest.fixture(scope="module")
def full(folder: Path) -> RunDirectory:
    """A run in which all weights have learned."""
    return run_of(small(folder, "encoding=t5"), folder / "full")


@pytest.fixture(scope="module")
def lora(folder: Path, full: RunDirectory) -> RunDirectory:
    """A run under LoRA that began with those weights."""
    return run_of(small(folder, "encoding=t5", f"init_from={full.path}", *LORA), folder / "lora")


def state(run: RunDirectory) -> dict[str, Any]:
    loaded: dict[str, Any] = load_checkpoint(run.last_checkpoint)
    return loaded


def tokens() -> Tensor:
    return torch.arange(97, 113).unsqueeze(0)


def changed(run: RunDirectory, before: RunDirectory) -> set[str]:
    """Names of the weights that a run has changed, updates added to their matrices."""
    new, old = merged(weights(run.last_checkpoint)), weights(before.best_checkpoint)
    assert new.keys() == old.keys()
    return {name for name in new if not torch.equal(new[name], old[name])}


def test_lora_changes_attention_encodings_embeddings_and_norms(full, lora):
    attention = {f"blocks.0.mixer.{part}.weight" for part in ("query", "key_value", "output")}
    assert not any(name.startswith("blocks.0.mlp.") for name in changed(lora, full))
    assert attention < changed(lora, full)
    assert {"embedding.weight", "norm.weight"} < changed(lora, full)
    assert any(name.startswith("encodings.") for name in changed(lora, full))
    original = "blocks.0.mixer.query.parametrizations.weight.original"
    assert torch.equal(
        weights(lora.last_checkpoint)[original], weights(full.best_checkpoint)["blocks.0.mixer.query.weight"]
    )


def test_only_what_learns_is_in_the_state_of_the_optimizer_and_the_log_counts_it(lora):
    held = weights(lora.last_checkpoint)
    frozen = ("original", "scale", "output.weight")  # the last is that of the embedding by another name
    learns = [name for name in held if "mlp." not in name and not name.endswith(frozen)]
    moments = [moment["exp_avg"] for moment in state(lora)["optimizer_states"][0]["state"].values()]
    assert sorted(tuple(moment.shape) for moment in moments) == sorted(tuple(held[name].shape) for name in learns)
    count = sum(moment.numel() for moment in moments)
    assert f"adapt=lora: {count:,} parameters learn\n" in lora.log_file.read_text()


def test_all_learn_by_default_without_a_word(full):
    assert "learn" not in full.log_file.read_text()


def test_a_loaded_run_is_an_ordinary_model(lora):
    model = poslab.load(lora.path)
    assert not any("parametrizations" in name for name in model.state_dict())
    assert not any("parametrizations" in name for name, _ in model.named_modules())
    written = [int(token) for token in generate(model, tokens(), 4, Sampling(temperature=0))]
    with torch.no_grad():
        text = torch.cat([tokens(), torch.tensor([written])], dim=1)
        assert model(text)[0, -5:-1].argmax(-1).tolist() == written


def test_a_run_under_lora_has_the_figures_of_its_test_when_it_is_measured_and_evaluated(lora):
    metrics = lora.metrics()
    for scores in measure(lora.path).scores.values():
        if scores.metric == "bits_per_byte":
            assert scores.value == pytest.approx(metrics[f"test/bits_per_byte@{scores.length}"], rel=0.05)
    found = evaluate([open_run(lora.path)], Settings(parts=["encoding", "attention", "extrapolation"]))
    assert found.metrics
    swapped = open_run(lora.path, swap={"encoding": {"_target_": "poslab.encodings.NoPosition"}})
    assert not list(swapped.model.encodings.parameters())


def test_a_run_under_lora_begins_where_the_other_ended(folder, full):
    config = small(folder, "encoding=t5", f"init_from={full.path}", *LORA, "optimizer.lr=1e-9", "trainer.max_steps=2")
    still = run_of(config, folder / "still")
    for tag, value in full.metrics().items():
        if tag.startswith("test/loss"):
            assert still.metrics()[tag] == pytest.approx(value, rel=1e-5), tag


@pytest.mark.parametrize("adapt", [(), ("adapt=lora", "adapt.rank=5"), LORA])
def test_a_run_begins_with_the_merged_weights_of_one_under_lora(folder, lora, adapt):
    still = ["optimizer.lr=1e-9", "trainer.max_steps=2"]
    name = f"from_lora_{len(adapt)}_{adapt[-1][-1] if adapt else ''}"
    run = run_of(small(folder, "encoding=t5", f"init_from={lora.path}", *adapt, *still), folder / name)
    log = run.log_file.read_text()
    assert "afresh" not in log and "left out" not in log
    begun, given = merged(weights(run.last_checkpoint)), poslab.load(lora.path).state_dict()
    for weight in given:
        torch.testing.assert_close(begun[weight], given[weight], rtol=0, atol=1e-6)


@pytest.mark.parametrize("adapt", ["lora", "norms", "encoding"])
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(folder, full, adapt, tmp_path):
    words = ["encoding=t5", f"init_from={full.path}", f"adapt={adapt}", "model.dropout=0.1", "trainer.max_steps=6"]
    assert_resumes(small(folder, *words, "trainer.validations=1"), tmp_path)


def test_norms_or_encodings_change_alone(folder, full):
    for adapt, part in (("norms", "norm"), ("encoding", "encodings")):
        words = ["encoding=t5", f"init_from={full.path}", f"adapt={adapt}"]
        run = run_of(small(folder, *words), folder / f"only_{adapt}")
        assert changed(run, full) == {name for name in weights(full.best_checkpoint) if part in name}


def test_a_finished_run_under_lora_can_be_tested_again(folder, lora, tmp_path):
    shutil.copytree(lora.path, tmp_path / "untested")
    untested = RunDirectory(tmp_path / "untested")
    metrics = lora.metrics()
    kept = {tag: value for tag, value in metrics.items() if not tag.startswith("test/")}
    untested.metrics_file.write_text(json.dumps(kept))
    for tag, value in run_test(untested).items():
        assert value == pytest.approx(metrics[tag], rel=1e-6), tag


def test_the_output_layer_of_classes_learns_with_the_norms(tmp_path):
    lines = [line for number in range(60) for line in (f"good word{number},a", f"bad word{number},b")]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    data = ["dataset=classification_file", f"dataset.files={tmp_path / 'data.csv'}", "dataset.text=text"]
    tiny = ["model.d_model=16", "model.num_layers=1", "model.num_heads=2", "trainer=cpu", "trainer.precision=32-true"]
    more = ["dataset.label=label", f"dataset.cache_dir={tmp_path / 'cache'}", "trainer.max_steps=2", "adapt=norms"]
    run = run_of(composed(*data, *tiny, *more, "trainer.validations=1"), tmp_path / "run")
    assert weights(run.last_checkpoint)["output.weight"].shape[0] == 2
    shapes = [moment["exp_avg"].shape for moment in state(run)["optimizer_states"][0]["state"].values()]
    assert (2, 16) in shapes and all(len(shape) == 1 for shape in shapes if shape != (2, 16))


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["pose", "randomized"])
def test_a_pretrained_model_learns_the_positions_of_longer_texts(folder, full, positions):
    reach = {"pose": "positions.target_length=64", "randomized": "positions.max_position=64"}[positions]
    words = ["encoding=t5", f"init_from={full.path}", "adapt=lora", f"positions={positions}", reach]
    run = run_of(small(folder, *words), folder / positions)
    assert {tag for _, tag, _ in recorded(run)} >= {"validation/loss@16", "validation/loss@32"}
    again = run_of(small(folder, *words), folder / f"{positions}_again")
    timed = ("seconds", "memory", "tokens_per_second", "mfu")
    assert [row for row in recorded(run) if not row[1].endswith(timed) and "memory" not in row[1]] == [
        row for row in recorded(again) if not row[1].endswith(timed) and "memory" not in row[1]
    ]


def test_more_fits_into_memory_where_less_learns(monkeypatch):
    monkeypatch.setattr("poslab.runs.trainer_settings.memory_bytes", lambda on_gpu: 25_000_000)
    with pytest.raises(ValueError, match=r"^model has 1,\d+,\d+ parameters, which take"):
        check(composed("trainer=cpu"))
    check(composed("trainer=cpu", "adapt=norms"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["adapt=encoding"], "adapt=encoding needs .*Rotary"),
        (["adapt=lora", "adapt.rank=0"], "adapt.rank must be .*0"),
        (["adapt=lora", "adapt.alpha=-1"], "adapt.alpha must be .*-1"),
    ],
)
def test_what_cannot_learn_is_refused_before_training(words, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        check(composed(*words))


def test_a_class_that_is_no_adaptation_is_refused():
    config = composed()
    config["adapt"] = {"_target_": "poslab.encodings.sampling.base.Contiguous"}
    with pytest.raises(ValueError, match=r"^adapt\._target_ "):
        check(config)
