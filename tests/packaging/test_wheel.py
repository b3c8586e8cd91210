"""The wheel is all that a person needs: it is installed where no checkout can be imported, and used there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.training.runs import SMALL, words

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
FOLDERS = ("conf", "sweeps", "comparisons")

MINE = """
from poslab.encodings import DistanceBias

class Mine(DistanceBias):
    def __init__(self, num_heads, slope=0.1):
        super().__init__()
        self.num_heads, self.slope = num_heads, slope

    def bias_at(self, distance):
        return -self.slope * distance.abs().float().expand(self.num_heads, *distance.shape)
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources, in which nothing of an earlier build is left."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    for name in ("src", *FOLDERS):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*build, "-w", "built", "."], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = (folder / "built").glob("poslab-*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel, and with the other packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    programs = folder / "bin"
    (packages,) = folder.glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.rstrip("/").endswith("-packages")]
    (packages / "others.pth").write_text("\n".join(others))
    install = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "-q", "--no-deps"]
    done = subprocess.run([*install, "--no-index", str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return programs


@pytest.fixture
def typed(installed: Path, tmp_path: Path) -> Callable[..., str]:
    """Types words in the directory of the test, as a person does who has installed the wheel."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "POSLAB"))}
    environment["PATH"] = f"{installed}{os.pathsep}{environment['PATH']}"

    def typed(*words: str) -> str:
        done = subprocess.run([*words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return typed


def test_the_wheel_holds_every_module_and_every_choice(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "poslab").rglob("*.py")}
    choices = {f"poslab/{path.relative_to(ROOT)}" for name in FOLDERS for path in (ROOT / name).rglob("*.yaml")}
    pages = {f"poslab/report/report.{ending}" for ending in ("html.jinja", "css", "js")}
    parts = [path for path in (ROOT / "src" / "poslab" / "explorer").iterdir() if path.suffix not in ("", ".py")]
    pages |= {f"poslab/explorer/{path.name}" for path in parts}
    operators = {f"poslab/compiled/{name}.cpp" for name in ("attention", "rows")}
    assert held == {*modules, *choices, *pages, "poslab/py.typed", *operators}


def test_what_is_installed_is_the_wheel(typed, installed):
    program = "import poslab, importlib.util; print(poslab.__file__); print(importlib.util.find_spec('src'))"
    place, checkout = typed("python", "-c", program).splitlines()
    assert Path(place).is_relative_to(installed.parent)
    assert checkout == "None"
    assert typed("poslab", "--version").startswith("poslab ")
    assert "results=DIR" in typed("poslab", "advise", "size=300M", "context=64")


def test_runs_are_trained_evaluated_and_compared(typed, tmp_path):
    (tmp_path / "text.txt").write_text(words(1200))
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "conf" / "encoding").mkdir(parents=True)
    (tmp_path / "conf" / "encoding" / "mine.yaml").write_text("_target_: mine.Mine\n_partial_: true\n")
    steps = "trainer.max_steps=4"
    small = [*(word for word in SMALL if word != steps), "trainer.max_steps=20", "dataset.files=text.txt"]
    small += ["dataset.cache_dir=cache"]

    printed = typed("poslab", "train", "encoding=rotary", *small)
    assert "poslab evaluate run=outputs/" in printed and "src." not in printed
    assert "with Mine" in typed("poslab", "train", "encoding=mine", "trust=mine", *small)
    (rotary,), (mine,) = (list(tmp_path.glob(f"outputs/*_text_{name}*")) for name in ("rotary", "mine"))

    short = ["parts=[extrapolation]", "tokens=600", "lengths=[16]"]
    assert "written: " in typed("poslab", "evaluate", f"run={mine.relative_to(tmp_path)}", "trust=mine", *short)
    assert (mine / "evaluation" / "report.html").is_file()

    typed("poslab", "compare", f"runs=[{rotary},{mine}]", "trust=mine", "output=compared")
    report = (tmp_path / "compared" / "report.html").read_text()
    assert "poslab compare" in report and "src." not in report
