"""Configurations of cells, which are checked before any training."""

from __future__ import annotations

import pytest
from hydra.errors import HydraException

from poslab.configuration.command_line import COMPARISONS, CONF
from poslab.experiments.cells import Cell
from poslab.experiments.comparison_file import read_comparison
from poslab.experiments.configurations import CellConfigurations, check_comparable, check_held_out
from poslab.training.components import prepared_data
from tests.experiments.comparisons import COPYING, TUNING, comparison


def configurations(**changes) -> CellConfigurations:
    return CellConfigurations(CONF, comparison(**changes))


def test_every_value_of_a_tuned_key_is_checked():
    made = configurations(tuning={**TUNING, "space": {"optimizer.lr": [1e-3, -1.0, 2e-3]}})
    with pytest.raises(ValueError, match=r"^copying under none with"):
        made.check("copying", "rotary")


def test_a_key_that_one_of_the_encodings_lacks_is_found_with_it():
    made = configurations(tuning={**TUNING, "space": {"encoding.base": [100, 1000]}}, encodings=["rotary", "none"])
    made.check("copying", "rotary")
    with pytest.raises(HydraException, match=r"encoding\.base"):
        made.check("copying", "none")


def test_a_run_that_fits_no_weight_of_the_one_before_it_is_found_before_any_training():
    wider = {"train": {**COPYING["train"], "model.d_model": 96}, "after": "copying"}
    made = configurations(cases={"copying": COPYING, "again": {**COPYING, "after": "copying"}, "wider": wider})
    made.check("again", "rotary")
    with pytest.raises(ValueError, match=r"^wider under rotary: model must"):
        made.check("wider", "rotary")


def test_what_an_encoding_sets_is_not_set_for_all():
    with pytest.raises(ValueError, match=r"^encoding.base is what encodings.slow"):
        configurations(overrides=["encoding.base=5"])


def test_a_start_reads_the_run_that_a_case_begins_with_before_that_is_trained():
    cases = {
        "copying": COPYING,
        "reversing": {
            "train": {"experiment": "small", "dataset": "reverse"},
            **{"after": "copying", "after_encoding": "rotary"},
        },
    }
    fitted = {"name": "fitted", "encoding": "t5", "start": "fitted"}
    made = configurations(encodings=["rotary", fitted], cases=cases)
    made.check("reversing", "fitted")
    with pytest.raises(ValueError, match=r"^copying under fitted: start=fitted"):
        made.check("copying", "fitted")
    cases["reversing"]["train"]["model.num_layers"] = 7
    with pytest.raises(ValueError, match=r"^reversing under fitted: start=fitted"):
        configurations(encodings=["rotary", fitted], cases=cases).check("reversing", "fitted")


def test_a_typed_path_takes_the_place_of_the_pretrained_model_that_the_file_names(tmp_path):
    train = {"model": "pretrained", "pretrained": "minilm", "dataset": "trec"}
    made = configurations(cases={"questions": {"train": train}}, overrides=[f"model.path={tmp_path}/x"])
    with pytest.raises(ValueError, match=rf"^questions under rotary: model.path must be .* got '{tmp_path}/x'$"):
        made.check("questions", "rotary")


def test_encodings_may_have_keys_of_a_scaling_by_their_short_names():
    own = comparison(encodings=["rotary", {"name": "far", "encoding": "yarn", "encoding.factor": 8}])
    encoding = CellConfigurations(CONF, own).check("copying", "far").model.encoding
    assert encoding.keywords["scaling"].keywords["factor"] == 8


def test_texts_of_ones_own_are_compared_with_rotary_in_a_window_of_half_the_training_length():
    made = read_comparison(COMPARISONS, {"comparison": "text", "preset": "small"}, [])
    config = CellConfigurations(CONF, made).check("text", "rotary_window").config
    assert config["model"]["window"] == config["dataset"]["sequence_length"] // 2
    assert config["encoding"]["_target_"].rpartition(".")[2] == "Rotary"


def test_typed_data_takes_the_place_of_the_texts_and_leaves_the_task_of_retrieval(tmp_path):
    (tmp_path / "mine.txt").write_text("some text")
    typed = ["dataset=text", f"dataset.files={tmp_path}/mine.txt", "trainer.max_steps=7"]
    made = read_comparison(COMPARISONS, {"comparison": "text", "preset": "small"}, typed)
    cells = CellConfigurations(CONF, made)
    text, recall = (cells.of(Cell(case, "rotary_window", 1, {}, False)) for case in ("text", "recall"))
    assert text["dataset"]["files"] == f"{tmp_path}/mine.txt"
    assert recall["dataset"]["task"]["_target_"].endswith("MultiKeyRetrieval")
    assert recall["model"]["window"] == recall["dataset"]["sequence_length"] // 2
    assert text["trainer"]["max_steps"] == recall["trainer"]["max_steps"] == 7


TEXT = {"text": {"train": {"dataset": "python_docs", "trainer.max_steps": 20, "dataset.num_workers": 0}}}
ROPE = {"encoding": "rotary"}


def compared(variants, **changes) -> None:
    """Check that the runs of variants on a text can be compared with those of rotary."""
    own = comparison(encodings=["rotary"], variants=variants, **{"cases": TEXT, **changes})
    made = CellConfigurations(CONF, own)
    check_comparable(own, "text", {name: made.check("text", name) for name in own.choices_by_encoding})


def test_variants_of_equal_data_task_and_tokens_are_comparable():
    longer = {**ROPE, "dataset.sequence_length": 512, "dataset.batch_size": 2, "trainer.max_steps": 40}
    compared({"longer": longer, "wide": {"model.d_model": 96, "dataset.num_workers": 1, "optimizer": "muon"}})
    compared({"longer": {**ROPE, "dataset.sequence_length": 500}}, budget={"tokens": 100_000})


@pytest.mark.parametrize(
    ("variant", "sentence"),
    [
        ({"dataset.batch_size": 2}, "train on as much .* x dataset.sequence_length must be 40,960, got 10,240"),
        ({"trainer.max_steps": 10}, "train on as much .*trainer.max_steps x"),
        ({"trainer.validations": 1}, "not change trainer.validations, which is 5 for rotary, got 1"),
        ({"+trainer.lightning.max_time": "00:00:01:00"}, "not change trainer.lightning, which is null for rotary"),
        ({"callbacks": ["early_stopping"]}, "not change callbacks.early_stopping, which is null for rotary"),
        ({"model": "encoder"}, "not change the task by its model, which is LanguageModelling .* MaskedLanguage"),
    ],
)
def test_what_makes_runs_incomparable_names_the_variant_and_the_key(variant, sentence):
    with pytest.raises(ValueError, match=rf"^cases.text: variants.odd must {sentence}"):
        compared({"odd": {**ROPE, **variant}})


@pytest.mark.parametrize(
    ("key", "values", "sentence"),
    [
        ("dataset.test_fraction", [0.1, 0.2], "not change dataset.test_fraction"),
        ("debug", ["fast"], "not change trainer.validations"),
        ("trainer.max_steps", [20, 40], "train on as much as"),
    ],
)
def test_a_tuned_value_leaves_runs_comparable(key, values, sentence):
    text = {"text": {"train": {"dataset": "python_docs", "dataset.num_workers": 0}}}
    with pytest.raises(ValueError, match=rf"^cases.text: {key}=\S+ in tuning must {sentence}"):
        compared({"wide": {"model.d_model": 96}}, cases=text, tuning={**TUNING, "space": {key: values}})


def test_an_experiment_of_a_variant_changes_no_data():
    with pytest.raises(ValueError, match=r"^cases.text: variants.odd must not change dataset\.\w+, which is"):
        compared({"odd": {"experiment": "kazemnejad2023"}}, cases={"text": COPYING})


def test_examples_count_for_the_size_of_training_where_they_are_not_windows():
    with pytest.raises(ValueError, match=r"trainer.max_steps x dataset.batch_size must be"):
        compared({"odd": {**ROPE, "dataset.batch_size": 8}}, cases={"text": COPYING})


@pytest.mark.parametrize(("multiples", "is_same"), [([1, 2, 4], False), ([1, 2], True)])
def test_a_text_of_few_documents_is_cut_by_the_longest_window_which_must_be_the_same(multiples, is_same):
    longer = {**ROPE, "dataset.sequence_length": 512, "dataset.length_multiples": multiples}
    text = {"text": {"train": {"dataset": "python_docs", "dataset.length_multiples": [1, 2, 4]}}}
    own = comparison(encodings=["rotary"], variants={"longer": longer}, cases=text)
    made = CellConfigurations(CONF, own)
    data = {name: prepared_data(made.check("text", name)) for name in own.choices_by_encoding}
    if is_same:
        check_held_out(own, "text", data)
        return
    with pytest.raises(ValueError, match=r"^cases.text: variants.longer must not change what is held out"):
        check_held_out(own, "text", data)
