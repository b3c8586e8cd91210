"""Numbers of the definitions of a comparison's runs."""

from __future__ import annotations

import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from poslab.experiments.jobs import STUDY, DatabaseLedger, FolderLedger
from poslab.experiments.storage import open_storage
from poslab.experiments.study import definitions
from tests.experiments.comparisons import comparison


class Configurations:
    """Configurations that a test decides on."""

    def __init__(self, steps):
        self.steps = steps

    def definition(self, case, encoding):
        return {"encoding": {"name": encoding}, "trainer": {"max_steps": self.steps}}


@pytest.fixture
def ledger(tmp_path):
    return FolderLedger(tmp_path, Path)


def numbered(ledger, configurations, keep=True) -> set[int]:
    return set(definitions(ledger, comparison(), configurations, keep)[1].values())


def test_an_equal_definition_keeps_its_number_also_after_another_one(ledger):
    numbers = [numbered(ledger, Configurations(n), keep=True) for n in (5, 9, 5, 9)]
    assert numbers == [{1}, {2}, {1}, {2}]


def test_what_is_not_kept_changes_no_later_number(ledger):
    numbered(ledger, Configurations(5))
    assert numbered(ledger, Configurations(7), keep=False) == {2}
    assert numbered(ledger, Configurations(9), keep=True) == {2}


@pytest.mark.parametrize("inside", ["outputs/model", "data/text.txt"])
def test_a_definition_is_equal_in_another_working_folder(ledger, tmp_path, monkeypatch, inside):
    class OfPath(Configurations):
        def definition(self, case, encoding):
            return {**super().definition(case, encoding), "model": {"paths": [str(Path.cwd() / inside)]}}

    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert numbered(ledger, OfPath(5), keep=True) == {1}


def test_a_definition_is_equal_where_packages_are_elsewhere(ledger, monkeypatch):
    class OfPackage(Configurations):
        def definition(self, case, encoding):
            place = f"{sysconfig.get_path('purelib')}/a_model/tokenizer.json"
            return {**super().definition(case, encoding), "model": {"path": place}}

    for place in ("/one/site-packages", "/other"):
        monkeypatch.setattr(sysconfig, "get_path", lambda name, place=place: place)
        assert numbered(ledger, OfPackage(5), keep=True) == {1}
    assert ledger.read()[STUDY]["definitions"]["copying/none"][0]["model"]["path"] == "package:a_model/tokenizer.json"


def test_a_definition_that_was_kept_with_its_places_is_equal_too(ledger):
    path = {"path": str(Path.cwd() / "outputs/model")}
    with ledger.changing() as records:
        kept = {**Configurations(5).definition("copying", "none"), "model": path}
        records[STUDY] = {"id": "x", "definitions": {"copying/none": [kept]}}

    class OfPath(Configurations):
        def definition(self, case, encoding):
            return {**super().definition(case, encoding), "model": path}

    assert numbered(ledger, OfPath(5), keep=True) == {1}


def test_a_comparison_takes_over_no_sweep(tmp_path):
    made = comparison(storage=f"sqlite:///{tmp_path / 'study.db'}")
    ledger = DatabaseLedger(open_storage(made).engine, made.name)
    known, _ = definitions(ledger, made, Configurations(5), keep=True)
    assert definitions(ledger, made, Configurations(5), keep=True)[0] == known

    of_a_sweep = DatabaseLedger(open_storage(made).engine, "sweep")
    with of_a_sweep.changing() as records:
        records[STUDY] = {"id": known}
    with pytest.raises(ValueError, match=r"^name=sweep:.*of that name"):
        definitions(of_a_sweep, replace(made, name="sweep"), Configurations(5), keep=True)
