"""The notebooks run from the first cell to the last."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

LESS = {
    **{"max_steps=300": "max_steps=10", "validations=4": "validations=1 dataset.length_multiples=[1]"},
    **{"16_384": "4_096", "tokens=16384": "tokens=4096"},
}
"""Sizes with which a notebook takes less time."""


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted(ROOT.glob("docs/notebooks/*.ipynb")), ids=lambda path: path.stem)
def test_it_runs_and_shows_pictures(notebook, tmp_path, monkeypatch):
    # In a directory of its own, so that it trains anew and leaves nothing behind.
    for name in ("src", "conf"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs" / "notebooks").mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    fast = nbformat.read(notebook, as_version=4)
    for cell in fast.cells:
        for size, less in LESS.items():
            cell.source = cell.source.replace(size, less)
    ran = NotebookClient(
        fast, timeout=240, kernel_name="python3", resources={"metadata": {"path": tmp_path / "docs" / "notebooks"}}
    ).execute()
    outputs = [output for cell in ran.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output.name for output in outputs if output.output_type == "stream" and output.name == "stderr"] == []
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 6


@pytest.mark.parametrize("notebook", sorted(ROOT.glob("docs/notebooks/*.ipynb")), ids=lambda path: path.stem)
def test_it_is_kept_as_it_ran_from_the_first_cell_to_the_last(notebook):
    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
