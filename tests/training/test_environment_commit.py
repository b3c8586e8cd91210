"""The commit that a run records."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from poslab.runs import trainer_settings


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_checkout_around_an_installed_package_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    subprocess.run([*git, "config", "core.fsmonitor", str(program)], check=True)
    installed = tmp_path / "venv" / "lib" / "site-packages" / "poslab" / "training" / "environment.py"
    installed.parent.mkdir(parents=True)
    monkeypatch.setattr(trainer_settings, "__file__", str(installed))
    assert trainer_settings.commit() is None
    assert not (tmp_path / "ran").exists()
