"""A pretrained model trains, resumes, loads and generates as a model of ours does."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import poslab
from poslab.configuration.labels import label
from poslab.data.tokenizers import SubwordTokenizer, load_tokenizer
from poslab.experiments.composition import Composer
from poslab.experiments.trial_run import TrialConfigurations
from poslab.generation.decoding import generate
from poslab.generation.token_choice import Sampling
from poslab.pretrained.borrow import borrow
from poslab.runs.checkpoint import load_checkpoint
from poslab.runs.directory import RunDirectory
from poslab.runs.recipe import Recipe
from poslab.tasks.language_modelling import LanguageModelling
from poslab.tasks.task import task_for
from poslab.training.checking import check, warnings_of_pretrained
from poslab.training.console import next_commands
from tests.cli.running import Running, assert_same_run, at_step, python
from tests.experiments.sweeps import small_sweep
from tests.greedy import greedy
from tests.pretrained import tiny as tiny_models
from tests.training.runs import CONF, SMALL, composed, run_of, words


def choices(folder: Path, name: str, *overrides: str) -> list[str]:
    """The command line of a small run of a model in a folder."""
    of_ours = [word for word in SMALL if not word.startswith("model.")]
    data = [f"dataset.files={folder / 'text.txt'}", f"dataset.cache_dir={folder / 'cache'}"]
    return [*of_ours, *data, "model=pretrained", f"model.path={folder / name}", *overrides]


def configuration(folder: Path, name: str, *overrides: str) -> dict[str, Any]:
    """The configuration of a small run of a model in a folder."""
    return composed(*choices(folder, name, *overrides))


@pytest.mark.parametrize(("name", "encoding"), [("llama", "yarn"), ("bert", "t5"), ("llama", "pretrained")])
def test_a_run_trains_and_loads(folder, name, encoding):
    run = run_of(configuration(folder, name, f"encoding={encoding}"), folder / "run")
    trained, before = poslab.load(run.path), borrow(str(folder / name))
    assert not torch.equal(trained.embedding.weight[:280], before.embedding.weight[:280])
    assert label(run.config()) == encoding
    assert trained(torch.arange(10)[None]).isfinite().all()


@pytest.mark.parametrize(("encoding", "other"), [("yarn", "pretrained"), ("pretrained", "none")])
def test_a_run_is_to_be_compared_with_the_positions_of_the_model_itself_or_none(folder, encoding, other):
    words = choices(folder, "llama", f"encoding={encoding}")
    (folder / "environment.json").write_text(json.dumps({"choices": words}))
    said = next_commands(RunDirectory(folder), Recipe.of(composed(*words)), LanguageModelling({}))
    assert [line.split()[-1] for line in said if line.split()[0] == "compare"] == [f"encoding={other}"]


def test_a_tokenizer_that_has_more_tokens_than_the_model_is_refused_before_training(folder):
    SubwordTokenizer.train([[words(300)]], 290).save(folder / "llama")
    with pytest.raises(ValueError, match=r"^model\.path.*the model has 280$"):
        check(configuration(folder, "llama", "encoding=pretrained"))


def test_dropout_of_the_model_acts_in_training(folder):
    model = check(configuration(folder, "bert", "encoding=t5")).model.build(281)
    assert all(module.training for module in model.modules())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_under_lora_that_is_killed_and_resumed_ends_as_one_left_alone(folder):
    """With the dropout of BERT, and the tables of an encoding that learn beside the updates."""
    words = choices(folder, "bert", "encoding=t5", "adapt=lora", "trainer.max_steps=12", "trainer.saves=4")

    def train(*arguments: str, environment: dict[str, str] | None = None) -> int:
        return Running(python("-m", "src.train", *arguments), folder, environment).wait(300).status

    killed = at_step(8).environment(folder / "moment", signal.SIGKILL)
    assert train(*words, f"hydra.run.dir={folder / 'killed'}", environment=killed) == 137
    assert load_checkpoint(folder / "killed" / "checkpoints" / "last.safetensors")["global_step"] == 6
    assert train(f"resume={folder / 'killed'}") == 0
    assert train(*words, f"hydra.run.dir={folder / 'alone'}") == 0
    assert_same_run(folder / "killed", folder / "alone")


def test_a_run_generates(folder):
    run = run_of(configuration(folder, "llama", "encoding=alibi"), folder / "run")
    model, tokenizer = poslab.load(run.path), load_tokenizer(run.path)
    prompt = tokenizer.encode("the sea").tolist()
    written = [int(token) for token in generate(model, torch.tensor([prompt]), 5, Sampling(temperature=0))]
    assert written == greedy(model, prompt, 5)


def test_the_task_follows_from_the_model_that_the_path_names(folder):
    causal, both = (check(configuration(folder, name, "encoding=t5")) for name in ("llama", "bert"))
    assert (causal.task.__name__, both.task.__name__) == ("LanguageModelling", "MaskedLanguageModelling")
    assert task_for(both.source.kind, both.model.kind, both.model.capabilities) is both.task


def test_values_that_the_model_knows_are_those_of_the_model_unless_given(folder):
    encoding = check(configuration(folder, "llama", "encoding=yarn")).model.on_meta.encodings.layer(0)
    assert encoding.base == 500.0
    assert encoding.scaling.keywords["training_length"] == tiny_models.ROWS
    given = configuration(folder, "llama", "encoding=yarn", "encoding.base=7", "encoding.scaling.training_length=99")
    encoding = check(given).model.on_meta.encodings.layer(0)
    assert (encoding.base, encoding.scaling.keywords["training_length"]) == (7, 99)
    assert label(given) == "yarn base=7 training_length=99"


def test_models_of_ours_have_the_values_that_they_always_had():
    config = composed("encoding=yarn", "dataset.sequence_length=77")
    assert config["encoding"]["base"] == 10_000.0 and config["encoding"]["fraction"] == 1.0
    assert config["encoding"]["scaling"]["training_length"] == 77
    assert config["dataset"]["tokenizer"] == "bytes"
    assert label(config) == "yarn"


@pytest.mark.parametrize(
    ("overrides", "target"),
    [
        (["encoding=yarn", "encoding.factor=8"], 8 * tiny_models.ROWS),
        (["encoding=yarn", "encoding.scaling.training_length=100"], 400),
        (["encoding=alibi"], 4 * tiny_models.ROWS),
        (["encoding=learned", "encoding.max_length=50"], 50),
        (["encoding=yarn", "positions.target_length=77"], 77),
    ],
)
def test_pose_covers_what_the_encoding_reaches_unless_told(folder, overrides, target):
    words = choices(folder, "llama", "positions=pose", *overrides)
    assert Recipe.of(Composer(CONF, []).resolved(words)).model.positions.target_length == target


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["optimizer.lr=2e-4"], ["dataset.sequence_length=16"]),
        (["optimizer.lr=2e-3"], ["optimizer.lr=0.002", "dataset.sequence_length=16"]),
        (["optimizer.lr=2e-3", "adapt=lora"], ["dataset.sequence_length=16"]),
        (["optimizer.lr=2e-4", "positions=pose"], []),
        (["optimizer.lr=2e-4", "dataset.length_multiples=[1]"], ["dataset.sequence_length=16", "test, of 16 tokens,"]),
        (["optimizer.lr=2e-3", "trainer.max_steps=0"], []),
        (["optimizer.lr=2e-4", f"dataset.sequence_length={4 * tiny_models.ROWS}"], []),
        (["optimizer.lr=2e-4", f"dataset.sequence_length={5 * tiny_models.ROWS}"], ["encoding.factor=5"]),
        (["optimizer.lr=2e-4", f"dataset.sequence_length={2 * tiny_models.ROWS}", "encoding=rotary"], ["factor=2"]),
        (["optimizer.lr=2e-4", f"dataset.sequence_length={2 * tiny_models.ROWS}", "encoding=pretrained"], ["factor=2"]),
        (["optimizer.lr=2e-4", f"dataset.sequence_length={2 * tiny_models.ROWS}", "encoding=alibi"], []),
    ],
)
def test_a_run_warns_of_what_keeps_or_shows_little_of_a_pretrained_model(folder, overrides, said):
    recipe = check(configuration(folder, "llama", "encoding=yarn", *overrides))
    warnings = list(warnings_of_pretrained(recipe, recipe.model.on_meta))
    assert len(warnings) == len(said)
    assert all(word in warning for word, warning in zip(said, warnings, strict=True))


@pytest.mark.parametrize(
    ("overrides", "rate"),
    [
        ([], 2e-4),
        (["optimizer=lion"], 3e-5),
        (["optimizer.lr=2e-3"], 2e-3),
        (["experiment=small", "dataset=reverse"], 2e-4),
        (["experiment=peng2023_small"], 2e-4),
        (["experiment=peng2023"], 2e-5),
    ],
)
def test_a_pretrained_model_learns_at_a_tenth_of_the_rate_of_a_new_one_unless_one_is_given(folder, overrides, rate):
    assert composed("model=pretrained", f"model.path={folder / 'llama'}", *overrides)["optimizer"]["lr"] == rate


def test_a_large_pretrained_model_learns_at_a_smaller_rate(tmp_path):
    """The header of a file says how many weights it has: a sparse file can say 7 billion."""
    header = json.dumps({"w": {"dtype": "F16", "shape": [7_000_000_000], "data_offsets": [0, 14_000_000_000]}}).encode()
    (tmp_path / "tokenizer.json").touch()
    (tmp_path / "config.json").touch()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 14_000_000_000)
    assert composed("model=pretrained", f"model.path={tmp_path}")["optimizer"]["lr"] == 2.8e-5


def test_a_sweep_begins_at_the_rate_of_the_pretrained_model(folder):
    rates = {"choices": [0.0001, 0.0002]}
    sweep = small_sweep(
        folder, *choices(folder, "llama", "encoding=pretrained"), train={}, space={"optimizer.lr": rates}
    )
    without = [word for word in sweep.overrides if not word.startswith(("optimizer.lr=", "model."))]
    sweep = replace(sweep, overrides=[*without, f"model.path={folder / 'llama'}"])
    assert TrialConfigurations(CONF, sweep).check() == {"optimizer.lr": 2e-4}


def test_sizes_of_other_choices_do_not_get_in_the_way(folder):
    assert "d_model" not in configuration(folder, "llama", "debug=fast")["model"]
