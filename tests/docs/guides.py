"""Copies of the repository in which the commands of a guide are typed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def copy_of_repository(folder: Path, *names: str) -> None:
    """Copies these folders, and the settings of the tools; `python` is that of the tests there."""
    for name in names:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "bin" / "python").chmod(0o755)


def typed(folder: Path, command: str, *more: str) -> str:
    """The output of a command that is typed in the copy, with these arguments after it."""
    packages = f"{folder / 'src'}{os.pathsep}{folder}"
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": packages,
        "HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    # The commands find poslab itself where it is installed: here in the copy.
    whole = re.sub(r"(PYTHONPATH=\S+)", rf"\1:{packages}", " ".join([command.strip(), *more]))
    ended = subprocess.run(["bash", "-c", whole], cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
