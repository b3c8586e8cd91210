"""Runs that earlier versions wrote, which named some classes otherwise."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from poslab.configuration.build import target
from poslab.runs.directory import RunDirectory
from poslab.runs.earlier_versions import MOVED, OFFLINE
from tests.written_run import write_run

NAMED = {
    "trainer": "poslab.training.settings.TrainerSettings",
    "optimizer": "poslab.training.optimizer.AdamWithCosine",
    "dataset": "poslab.data.examples.bbc_topics.BbcTopics",
}


def renamed(folder: Path, names: dict[str, str]) -> RunDirectory:
    """Return a run whose configuration names these classes, by group."""
    run = write_run(folder / "run")
    config = OmegaConf.load(run.config_file)
    for group, name in names.items():
        config[group]["_target_"] = name
    OmegaConf.save(config, run.config_file)
    return RunDirectory.of(run.path)


def test_classes_are_named_by_where_they_are_now(tmp_path):
    config = renamed(tmp_path, NAMED).config()
    now = {group: target(config[group]["_target_"], group, object, ["poslab"]).__name__ for group in NAMED}
    assert now == {"trainer": "TrainerSettings", "optimizer": "AdamW", "dataset": "BbcTopics"}


def test_what_is_named_now_is_there():
    for name in MOVED.values():
        assert target(name, "key", object, ["poslab"])
    for module in OFFLINE:
        __import__(f"poslab.data.offline.{module}")


def test_a_class_that_is_gone_is_one_sentence_that_says_since_when(tmp_path):
    run = renamed(tmp_path, {"dataset": "poslab.data.examples.grade_school_math.GradeSchoolMath"})
    with pytest.raises(ValueError, match=r"config\.yaml names .*GradeSchoolMath: .* removed after version 0\.1\.0"):
        run.config()
