"""Configurations of cells, which are checked before any training."""

from __future__ import annotations

import pytest
from hydra.errors import HydraException

from poslab.configuration.folders import COMPARISONS, CONF
from poslab.experiments.cells import Cell
from poslab.experiments.comparison_file import read_comparison
from poslab.experiments.configurations import CellConfigurations
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
    with pytest.raises(ValueError, match=r"^encoding.base is what slow"):
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
