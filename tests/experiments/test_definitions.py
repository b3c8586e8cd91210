"""Numbers of the definitions of a comparison's runs."""

from __future__ import annotations

import sysconfig
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from poslab.experiments.definitions import identity, numbered, study_of
from poslab.experiments.tuning.attributes import SPECIFICATION
from poslab.experiments.tuning.storage import open_storage
from tests.experiments.comparisons import comparison


class Configurations:
    """Configurations that a test decides on."""

    def __init__(self, steps):
        self.steps = steps

    def definition(self, case, encoding):
        return {"encoding": {"name": encoding}, "trainer": {"max_steps": self.steps}}


@pytest.fixture
def study():
    return optuna.create_study()


def test_an_equal_definition_keeps_its_number_also_after_another_one(study):
    numbers = [set(numbered(study, comparison(), Configurations(n), keep=True).values()) for n in (5, 9, 5, 9)]
    assert numbers == [{1}, {2}, {1}, {2}]


def test_what_is_not_kept_changes_no_later_number(study):
    numbered(study, comparison(), Configurations(5), keep=True)
    assert set(numbered(study, comparison(), Configurations(7), keep=False).values()) == {2}
    assert set(numbered(study, comparison(), Configurations(9), keep=True).values()) == {2}


@pytest.mark.parametrize("inside", ["outputs/model", "data/text.txt"])
def test_a_definition_is_equal_in_another_working_folder(study, tmp_path, monkeypatch, inside):
    class OfPath(Configurations):
        def definition(self, case, encoding):
            return {**super().definition(case, encoding), "model": {"paths": [str(Path.cwd() / inside)]}}

    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert set(numbered(study, comparison(), OfPath(5), keep=True).values()) == {1}


def test_a_definition_is_equal_where_packages_are_elsewhere(study, monkeypatch):
    class OfPackage(Configurations):
        def definition(self, case, encoding):
            place = f"{sysconfig.get_path('purelib')}/a_model/tokenizer.json"
            return {**super().definition(case, encoding), "model": {"path": place}}

    for place in ("/one/site-packages", "/other"):
        monkeypatch.setattr(sysconfig, "get_path", lambda name, place=place: place)
        assert set(numbered(study, comparison(), OfPackage(5), keep=True).values()) == {1}
    assert study.user_attrs["definition copying/none 1"]["model"]["path"] == "package:a_model/tokenizer.json"


def test_a_definition_that_was_kept_with_its_places_is_equal_too(study):
    path = {"path": str(Path.cwd() / "outputs/model")}
    for encoding in ("none", "rotary", "slow"):
        kept = {**Configurations(5).definition("copying", encoding), "model": path}
        study.set_user_attr(f"definition copying/{encoding} 1", kept)

    class OfPath(Configurations):
        def definition(self, case, encoding):
            return {**super().definition(case, encoding), "model": path}

    assert set(numbered(study, comparison(), OfPath(5), keep=True).values()) == {1}


def test_a_comparison_takes_over_no_study_of_something_else(tmp_path):
    made = comparison(output=str(tmp_path))
    storage = open_storage(made)
    known = identity(study_of(made, storage))
    assert identity(study_of(made, storage)) == known

    sweep = optuna.create_study(storage=storage, study_name="sweep")
    sweep.set_user_attr(SPECIFICATION, {})
    with pytest.raises(ValueError, match=r"^name=sweep: the storage has a sweep of that name"):
        study_of(replace(made, name="sweep"), storage)

    optuna.create_study(storage=storage, study_name="other").ask()
    with pytest.raises(ValueError, match=r"^name=other: the storage has a study of that name"):
        study_of(replace(made, name="other"), storage)
