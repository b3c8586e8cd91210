"""Labels of runs by the names that people type."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from poslab.configuration.command_line import CONF
from poslab.configuration.labels import choice_name, label, labels, names_in_plots, shown, written
from tests.encoding_choices import EVERY_ENCODING, choice
from tests.training.runs import composed as config


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([["encoding=rotary"], ["encoding=t5"]], ["rotary", "t5"]),
        (
            [["encoding.base=1e5"], ["encoding.base=10"], ["encoding=alibi"]],
            ["rotary base=1e5", "rotary base=10", "alibi"],
        ),
        ([["seed=1"], ["seed=2", "encoding=none"]], ["rotary seed=1", "none seed=2"]),
        ([["optimizer.lr=0.01"], ["optimizer.lr=0.001"]], ["rotary lr=0.01", "rotary lr=0.001"]),
        ([["positions=randomized"], []], ["rotary positions=randomized", "rotary positions=contiguous"]),
        (
            [["adapt=lora"], [], ["adapt=lora", "adapt.rank=2"]],
            ["rotary adapt=lora rank=8", "rotary adapt=full", "rotary adapt=lora rank=2"],
        ),
        ([["temperature=ssmax"], []], ["rotary temperature=ssmax", "rotary"]),
        ([["objective=distil", "objective.teacher=A"], []], ["rotary objective=distil", "rotary objective=task"]),
        (
            [["objective=distil", f"objective.teacher={name}"] for name in "AB"],
            ["rotary teacher=A", "rotary teacher=B"],
        ),
        ([["encoding=yarn", "encoding.scaling.factor=8"], ["encoding=yarn"]], ["yarn factor=8", "yarn factor=4"]),
        ([["encoding=yarn"], ["encoding=none"]], ["yarn factor=4", "none"]),
        ([["encoding=t5"], ["encoding=shaw", "encoding.max_distance=8"]], ["t5", "shaw"]),
        (
            [["encoding=dape", f"encoding.over._target_=poslab.encodings.{name}"] for name in ("KerplePower", "Alibi")],
            ["Dape over=KerplePower", "Dape over=Alibi"],
        ),
        (
            [["dataset=multi30k", f"encoding@model.cross_encoding={name}"] for name in ("none", "kerple_log")],
            ["rotary cross_encoding=NoPosition", "rotary cross_encoding=KerpleLog"],
        ),
        (
            [["encoding=learned", "dataset.sequence_length=8"], []],
            ["learned sequence_length=8", "rotary sequence_length=256"],
        ),
        ([[], []], ["rotary", "rotary"]),
    ],
)
def test_a_label_names_the_encoding_and_what_differs(runs, expected):
    assert labels([config(*overrides) for overrides in runs], CONF) == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "rotary"),
        (["encoding.base=1e5"], "rotary base=1e5"),
        (["encoding.base=100000"], "rotary base=100000"),
        (["encoding=learned", "dataset.sequence_length=64"], "learned"),
        (["encoding=learned", "encoding.max_length=64"], "learned max_length=64"),
        (["encoding=yarn", "encoding.scaling.factor=8", "seed=3"], "yarn factor=8"),
        (["positions=randomized", "positions.max_position=99"], "rotary positions=randomized max_position=99"),
        (["encoding=t5", "temperature=ssmax"], "t5 temperature=ssmax"),
        (["dataset=copy", "optimizer.lr=0.1"], "rotary"),
        (["encoding=swin_v2", "encoding.grid=[7,9]"], "swin_v2 grid=[7,9]"),
        (["encoding=swin_v2", "+dataset.grid=[7,9]"], "swin_v2"),
    ],
)
def test_the_label_of_one_run_names_what_differs_from_its_choices(overrides, expected):
    assert label(config(*overrides)) == expected


@pytest.fixture(scope="module")
def usual():
    return config("dataset.sequence_length=512")


@pytest.mark.parametrize("name", EVERY_ENCODING)
def test_an_encoding_as_it_is_chosen_is_found_by_its_configuration_and_is_its_own_label(name, usual):
    chosen = {**usual, "encoding": OmegaConf.to_container(choice("encoding", name), resolve=True)}
    assert choice_name(CONF, "encoding", chosen["encoding"]) == name
    assert label(chosen) == name


def test_two_runs_have_two_labels_though_four_keys_are_alike():
    sizes = ("model.num_layers", "model.dropout", "optimizer.lr", "optimizer.weight_decay", "trainer.max_steps")
    runs = [config(*(f"{key}=1" for key in sizes)), config(*(f"{key}=0" for key in sizes[:-1])), config()]
    assert all(len(one.split()) == 5 for one in labels(runs))
    runs += [config(*(f"{key}=1" for key in sizes[:-1]), "trainer.max_steps=2")]
    assert len(set(labels(runs))) == 4


def test_two_runs_have_two_labels_though_long_values_end_alike(tmp_path):
    files = [f"dataset.files=[{tmp_path}/{'x' * 30}/{name}/{'y' * 30}.txt]" for name in "ab"]
    one, other = labels([config("dataset=text", file) for file in files])
    assert one != other
    other, short = labels([config("dataset=text", files[0]), config("dataset=text", "dataset.files=[c.txt]")])
    assert len(other) < 60 and short == "rotary files=[c.txt]"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e5, "1e5"),
        (250000.0, "2.5e5"),
        (12345.0, "12345"),
        (1000.0, "1000"),
        (1e-5, "1e-5"),
        (0.001, "0.001"),
        (1 / 3, "0.3333333333333333"),
        (float("inf"), "inf"),
        (100000, "100000"),
        (None, "null"),
        (True, "true"),
        (["a b", None], "[ab,null]"),
        (
            [{"_target_": "lab.Alibi", "_partial_": True}, {"_target_": "lab.Rotary", "base": 1e5}],
            "[Alibi,Rotary(base=1e5)]",
        ),
    ],
)
def test_a_value_is_shown_as_it_is_typed(value, text):
    assert shown(value) == text


def test_a_class_of_poslab_may_be_named_by_a_package_above_it():
    assert label({"encoding": {"_target_": "poslab.encodings.Rotary", "base": 1e5}}) == "rotary base=1e5"
    assert label({"encoding": {"_target_": "mylab.Rotary", "base": 1e5}}) == "Rotary base=1e5"


def test_a_broken_file_beside_the_choices_is_passed_over(tmp_path):
    (tmp_path / "encoding").mkdir()
    (tmp_path / "encoding" / "good.yaml").write_text("_target_: lab.Mine\nsize: 3\n")
    for name, content in {"odd": b"a: [", "list": b"[1]", "empty": b"", "bytes": b"\xff"}.items():
        (tmp_path / "encoding" / f"{name}.yaml").write_bytes(content)
    own = {"encoding": {"_target_": "lab.Mine", "size": 4}}
    assert label(own, tmp_path) == "good size=4"


def test_keys_that_end_alike_are_told_apart():
    one, other = (
        config("model.num_layers=2", "trainer.max_steps=10"),
        config("model.num_layers=3", "trainer.max_steps=20"),
    )
    assert labels([one, other], CONF) == ["rotary num_layers=2 max_steps=10", "rotary num_layers=3 max_steps=20"]


def test_a_class_of_ones_own_has_its_own_name():
    own = {**config(), "encoding": {"_target_": "mylab.Mine", "size": 3}}
    assert choice_name(CONF, "encoding", own["encoding"]) is None
    assert labels([own, config()], CONF) == ["Mine", "rotary"]
    assert label(own) == "Mine size=3"


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("alibi", "ALiBi"),
        ("t5 max_distance=64", "T5 max_distance=64"),
        ("rotary", "Rotary (RoPE)"),
        ("rotary_25", "rotary_25"),
    ],
)
def test_pictures_name_an_encoding_as_papers_do(label, name):
    assert written(label) == name


def test_a_report_says_which_encodings_its_pictures_name_otherwise():
    found = names_in_plots(["alibi", "rotary_axial base=10", "rotary_axial", "none", "rotary_25"])
    assert found.split("; ") == ["rotary_axial is Axial rotary", "none is None (NoPE)"]
    assert names_in_plots(["alibi"]) == ""


def test_an_encoding_whose_file_has_no_such_name_keeps_that_of_the_file(tmp_path):
    (tmp_path / "encoding").mkdir()
    (tmp_path / "encoding" / "mine.yaml").write_text("# My own encoding. See my paper: it is good.\n_target_: m.Mine\n")
    assert written("mine", tmp_path) == "mine"
