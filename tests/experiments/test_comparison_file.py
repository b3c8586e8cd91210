"""Comparison files, their presets, and the keys that override them."""

from __future__ import annotations

import json

import pytest
import yaml

from poslab.configuration.command_line import COMPARISONS, CONF
from poslab.experiments.cells import Cell
from poslab.experiments.comparison_file import comparison_files, read_comparison
from poslab.experiments.configurations import CellConfigurations, with_counts
from poslab.runs.recipe import Recipe

QUESTION = """
question: Does it work?
baseline: rotary
encodings: [none, rotary]
cases:
  text: {train: {dataset: python_docs, trainer.max_steps: 100}, lengths: [1x, 2x]}
metrics: {loss: {direction: minimize}}
presets:
  small: {seeds: 1, train: {size: tiny}, cases: {text: {train: {trainer.max_steps: 10}}, more: {train: {}}}}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "question.yaml").write_text(QUESTION)
    return tmp_path


def test_a_preset_is_merged_into_train_and_cases_and_replaces_other_keys(folder):
    made = read_comparison(folder, {"comparison": "question", "preset": "small"}, [])
    assert (made.seed_list, made.train) == ([1], {"size": "tiny"})
    assert made.all_cases["text"].train == {"dataset": "python_docs", "trainer.max_steps": 10}
    assert made.all_cases["text"].lengths == ["1x", "2x"]
    assert list(made.all_cases) == ["text", "more"]


def test_a_preset_leaves_out_a_case_that_it_sets_to_null(tmp_path):
    (tmp_path / "question.yaml").write_text(QUESTION.replace("text: {train: {trainer.max_steps: 10}}", "text: null"))
    made = read_comparison(tmp_path, {"comparison": "question", "preset": "small"}, [])
    assert list(made.all_cases) == ["more"]


def test_keys_of_the_command_line_override_the_file(folder):
    made = read_comparison(
        folder, {"comparison": "question", "seeds": 5, "encodings": ["rotary", "t5"]}, ["size=small"]
    )
    assert (made.seed_list, list(made.choices_by_encoding)) == ([1, 2, 3, 4, 5], ["rotary", "t5"])
    assert made.overrides == ["size=small"]


VARIANTS = """
variants:
  wide: {encoding: rotary, model.d_model: 96}
  window: {encoding: rotary, model.window: 16}
tuning:
  metric: loss
  direction: minimize
  trials: 2
  space: {optimizer.lr: [1.0e-3, 2.0e-3]}
  of: {wide: {optimizer.weight_decay: [0.0, 0.1]}, none: {optimizer.weight_decay: [0.0, 0.1]}}
"""


def test_a_command_line_selects_variants_and_encodings_of_the_file_by_name(tmp_path):
    slow = "{name: slow, encoding: rotary, encoding.base: 1000}"
    (tmp_path / "question.yaml").write_text(QUESTION.replace("[none, rotary]", f"[none, rotary, {slow}]") + VARIANTS)
    made = read_comparison(tmp_path, {"comparison": "question", "encodings": ["rotary", "slow", "alibi", "wide"]}, [])
    assert made.choices_by_encoding == {
        "rotary": {"encoding": "rotary"},
        "slow": {"encoding": "rotary", "encoding.base": 1000},
        "alibi": {"encoding": "alibi"},
        "wide": {"encoding": "rotary", "model.d_model": 96},
    }
    assert list(made.tuning_of("text").of) == ["wide"]


def test_a_command_line_selects_among_the_encodings_of_each_case(tmp_path):
    of_cases = "  far: {train: {}, encodings: [none, rotary, alibi]}\n  near: {train: {}, encodings: [none, alibi]}\n"
    (tmp_path / "question.yaml").write_text(QUESTION.replace("cases:\n", f"cases:\n{of_cases}"))
    made = read_comparison(tmp_path, {"comparison": "question", "encodings": ["none", "rotary"]}, [])
    assert {case: made.encodings_of(case) for case in made.all_cases} == {
        "far": ["none", "rotary"],
        "text": ["none", "rotary"],
    }


def test_the_directory_follows_from_the_name_and_the_preset(folder):
    made = read_comparison(folder, {"comparison": "question", "preset": "small"}, [])
    assert (made.name, made.output) == ("question_small", "outputs/comparisons/question_small")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "comparison must name.*question"),
        ({"comparison": "questions"}, "unknown comparison 'questions'.*you mean 'question'"),
        ({"comparison": "question", "preset": "smal"}, "unknown preset 'smal'"),
        ({"comparison": "question", "sseeds": 1}, "unknown key 'sseeds'.*you mean 'seeds'"),
        ({"comparison": "question", "seeds": 0}, r"seeds must.*many.* \(comparison=question\)"),
    ],
)
def test_a_mistake_is_one_sentence(folder, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_comparison(folder, given, [])


def test_the_path_of_a_file_without_its_ending_is_completed(folder):
    with pytest.raises(ValueError, match=rf"did you mean '{folder}/question.yaml'"):
        read_comparison(COMPARISONS, {"comparison": f"{folder}/question"}, [])


def test_every_claim_of_a_paper_that_a_preset_leaves_out_is_about_a_case_of_the_file():
    name = {"comparison": "papers/kazemnejad2023"}
    whole, small = (read_comparison(COMPARISONS, {**name, **preset}, []) for preset in ({}, {"preset": "small"}))
    assert set(small.all_cases) < set(whole.all_cases)
    assert {claim["case"] for claim in small.claims} <= set(whole.all_cases)
    assert {claim["case"] for claim in small.claims} & set(small.all_cases)


@pytest.mark.parametrize(("key", "value"), [("train", {"trainer.max_steps": 5}), ("metrics", {}), ("gate", None)])
def test_a_key_of_a_preset_that_a_case_would_override_is_refused_unless_the_preset_sets_it_there_too(
    tmp_path, key, value
):
    node = yaml.safe_load(QUESTION)
    node["cases"]["text"].setdefault(key, value)
    node["presets"] = {"small": {key: value}}
    file, given = tmp_path / "question.yaml", {"comparison": "question", "preset": "small"}
    file.write_text(json.dumps(node))
    name = "train.trainer.max_steps" if key == "train" else key
    with pytest.raises(ValueError, match=rf"presets.small.{name} .* cases.text.{name}"):
        read_comparison(tmp_path, given, [])
    node["presets"]["small"]["cases"] = {"text": {key: node["cases"]["text"][key]}}
    file.write_text(json.dumps(node))
    comparison_files(tmp_path).read(file, "small")


FILES = comparison_files(COMPARISONS)
WITH_PRESETS = [
    (name, preset)
    for name in FILES.names()
    for preset in (None, *(yaml.safe_load(FILES.path(name).read_text()).get("presets") or {}))
]


@pytest.mark.parametrize(("name", "preset"), WITH_PRESETS)
def test_every_file_is_a_comparison_in_which_no_case_overrides_what_a_preset_chooses(name, preset):
    made = read_comparison(COMPARISONS, {"comparison": name} | ({"preset": preset} if preset else {}), [])
    assert len(made.pairs) >= 2
    chosen = {} if preset is None else yaml.safe_load(FILES.path(name).read_text())["presets"][preset]
    for case, node in made.all_cases.items():
        of_case = {**chosen.get("train", {}), **((chosen.get("cases") or {}).get(case) or {}).get("train", {})}
        assert of_case.items() <= {**made.train, **node.train}.items()


@pytest.mark.parametrize("name", [name for name, preset in WITH_PRESETS if preset == "gpu"])
def test_the_preset_of_a_gpu_has_models_of_60_to_120_million_parameters(name):
    made = with_counts(read_comparison(COMPARISONS, {"comparison": name, "preset": "gpu"}, []), CONF)
    configurations = CellConfigurations(CONF, made)
    for case in made.all_cases:
        config = configurations.of(Cell(case, made.baseline, 1, {}, is_trial=False))
        weights = Recipe.of(config).model.on_meta.parameters()
        assert 5.5e7 < sum(weight.numel() for weight in weights) < 1.3e8


def test_the_readmes_comparison_trains_the_few_steps_of_its_preset():
    made = read_comparison(COMPARISONS, {"comparison": "text", "preset": "small"}, [])
    assert {**made.train, **made.all_cases["text"].train}["trainer.max_steps"] == 600


def test_every_encoding_that_reads_the_order_of_a_text_is_in_one_comparison():
    of_axes = "alibi_grid beit fourier_features learned_axes learned_grid mhrope mrope mrope_interleaved relative_table"
    of_axes += " rotary_axial rotary_mixed sinusoidal_grid swin_v2 t5_axes videorope"
    named = {path.stem for path in (CONF / "encoding").glob("*.yaml")} - {
        "pretrained",
        "convolutional",
        *of_axes.split(),
    }
    made = read_comparison(COMPARISONS, {"comparison": "every_encoding"}, [])
    assert set(made.choices_by_encoding) == named


OF_BOTH = """
question: Does it work?
baseline: pretrained
encodings: [pretrained, rotary]
cases:
  tuned: {train: {model: pretrained, model.path: a, optimizer.lr: 1.0e-3}}
  new: {train: {optimizer.lr: 2.0e-3}}
metrics: {loss: {direction: minimize}}
"""


@pytest.mark.parametrize(
    ("typed", "cases", "rates"),
    [
        ([], ["tuned", "new"], [1e-3, 2e-3]),
        (["model.path=b"], ["tuned"], [1e-4]),
        (["model=pretrained", "model.path=b"], ["tuned", "new"], [1e-4, 2e-4]),
    ],
)
def test_a_typed_path_keeps_the_cases_of_pretrained_models_and_makes_rates_smaller(tmp_path, typed, cases, rates):
    (tmp_path / "both.yaml").write_text(OF_BOTH)
    made = read_comparison(tmp_path, {"comparison": "both"}, typed)
    assert list(made.all_cases) == cases
    assert [made.all_cases[case].train["optimizer.lr"] for case in cases] == rates
