"""Digests of the definitions of a comparison's runs, and the identity of its records."""

from __future__ import annotations

import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from poslab.configuration.command_line import CONF
from poslab.experiments.configurations import CellConfigurations
from poslab.experiments.jobs import STUDY, DatabaseLedger
from poslab.experiments.plan import identity_of
from poslab.experiments.storage import open_storage
from tests.experiments.comparisons import comparison


def digest(*overrides: str) -> str:
    return CellConfigurations(CONF, comparison(overrides=list(overrides))).definition("copying", "none")


def test_only_another_configuration_has_another_digest():
    assert digest() == digest() != digest("trainer.max_steps=9")


@pytest.mark.parametrize("inside", ["outputs/model", "data/text.txt"])
def test_a_definition_is_equal_in_another_working_folder(tmp_path, monkeypatch, inside):
    digests = set()
    for name in ("one", 'oth"er'):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        digests.add(digest(f"init_from={str(Path.cwd() / inside)!r}"))
    assert len(digests) == 1


def test_a_definition_is_equal_where_packages_are_elsewhere(monkeypatch):
    digests = set()
    for folder in ("/one/site-packages", "/other"):
        monkeypatch.setattr(sysconfig, "get_path", lambda name, folder=folder: folder)
        digests.add(digest(f"init_from={folder}/a_model"))
    assert len(digests) == 1


def test_a_comparison_takes_over_no_sweep(tmp_path):
    made = comparison(storage=f"sqlite:///{tmp_path / 'study.db'}")
    ledger = DatabaseLedger(open_storage(made).engine, made.name)
    known = identity_of(ledger, made)
    assert identity_of(ledger, made) == known

    of_a_sweep = DatabaseLedger(open_storage(made).engine, "sweep")
    with of_a_sweep.changing() as records:
        records[STUDY] = {"id": known}
    with pytest.raises(ValueError, match=r"^name=sweep:.*of that name"):
        identity_of(of_a_sweep, replace(made, name="sweep"))
