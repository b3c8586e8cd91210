from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from poslab.runs.directory import RunDirectory
from tests.written_run import write_run


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return write_run(tmp_path_factory.mktemp("written") / "run")


@pytest.fixture
def run(written: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A run that a test may damage."""
    shutil.copytree(written.path, tmp_path / "run")
    return RunDirectory(tmp_path / "run")
