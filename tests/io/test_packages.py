"""Paths in installed packages, which are found without an import."""

from __future__ import annotations

from pathlib import Path

import pytest

from poslab.io.files import in_package, package_folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "a_model"
    (folder / "files").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_a_path_in_a_package_is_that_of_its_folder(package):
    assert in_package("package:a_model/files") == str(package / "files")
    assert in_package("package:a_model") == str(package)
    assert in_package("files/of/mine") == "files/of/mine"
    assert package_folder("a_model") == package


@pytest.mark.parametrize("name", ["no_such_model", "no-name", "", "sys", "a.b"])
def test_a_package_that_is_missing_is_named(name):
    with pytest.raises(ValueError, match=f"^path=package:{name}/x needs the package .*"):
        in_package(f"package:{name}/x")
