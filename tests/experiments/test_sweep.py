from __future__ import annotations

from pathlib import Path

import pytest

from poslab.experiments.sweep import read_sweep, sweep_files

DEFAULTS = """
train: {trainer.max_steps: 100, trainer.validations: 6}
pruner: {_target_: optuna.pruners.MedianPruner}
presets: {small: {train: {trainer.max_steps: 10}, pruner: null}}
"""

QUESTION = """
question: Does it work?
train: {trainer.validations: 2}
space: {encoding.base: {float: [1, 2]}}
n_trials: 3
presets: {small: {n_trials: 1}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "defaults.yaml").write_text(DEFAULTS)
    (tmp_path / "question.yaml").write_text(QUESTION)
    return tmp_path


def test_a_file_says_only_what_differs_from_the_defaults_beside_it(folder):
    sweep = read_sweep(folder, {"sweep": "question"}, [])

    assert sweep.train == {"trainer.max_steps": 100, "trainer.validations": 2}
    assert sweep.pruner == {"_target_": "optuna.pruners.MedianPruner"}
    assert sweep.n_trials == 3


def test_a_preset_of_the_defaults_is_added_to_that_of_the_file(folder):
    sweep = read_sweep(folder, {"sweep": "question", "preset": "small"}, [])

    assert sweep.train == {"trainer.max_steps": 10, "trainer.validations": 2}
    assert (sweep.pruner, sweep.n_trials, sweep.name) == (None, 1, "question_small")


def test_a_file_counts_more_than_a_preset_of_the_defaults(folder):
    (folder / "question.yaml").write_text(QUESTION.replace("validations: 2", "max_steps: 50"))

    assert read_sweep(folder, {"sweep": "question", "preset": "small"}, []).train["trainer.max_steps"] == 50


def test_the_defaults_are_not_a_sweep(folder):
    assert sweep_files(folder).names() == ["question"]
    with pytest.raises(ValueError, match="unknown sweep"):
        read_sweep(folder, {"sweep": "defaults"}, [])


@pytest.mark.parametrize("name", ["sampler", "pruner"])
def test_a_sampler_or_a_pruner_without_a_target_is_one_sentence(name, folder):
    with pytest.raises(ValueError, match=rf"^{name} must be {{_target_: optuna.{name}s...}} with its arguments, got"):
        read_sweep(folder, {"sweep": "question", name: {"seeds": 3}}, [])


@pytest.mark.parametrize(
    ("presets", "sentence"),
    [
        ("[small]", "presets must be keys by"),
        ("{small: 3}", "presets must be keys by"),
        ("{small: {train: rotary}}", r"train in presets\.small must"),
        (
            "{small: {n_trails: 3}}",
            r"question\.yaml: .*n_trails .*'n_trials'",
        ),
    ],
)
def test_presets_that_are_none_are_refused(presets, sentence, folder):
    (folder / "question.yaml").write_text(QUESTION.replace("{small: {n_trials: 1}}", presets))

    with pytest.raises(ValueError, match=sentence):
        read_sweep(folder, {"sweep": "question"}, [])


@pytest.mark.parametrize("rates", ["{float: [1.0e-4, 8.0e-3], log: true}", "{choices: [1.0e-4, 8.0e-3]}"])
def test_rates_of_a_file_are_smaller_for_a_typed_pretrained_model(folder, rates):
    (folder / "question.yaml").write_text(QUESTION.replace("encoding.base: {float: [1, 2]}", f"optimizer.lr: {rates}"))
    sweep = read_sweep(folder, {"sweep": "question"}, ["model=pretrained", "model.path=nowhere"])
    assert sweep.search_space.parameters[0].ends == (1e-5, 8e-4)
