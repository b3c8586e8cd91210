"""An encoding outside the repository works in every command, and so do the commands that are printed for its runs."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import poslab

from .running import ROOT, Running, at_step, python

ENCODING = """
from poslab.encodings import Rotary

class Turning(Rotary):
    '''Rotary under another name.'''
"""
SWEEP = """
question: Which share of the channels should turn?
train: {encoding: turning, trainer.max_steps: 4, trainer.validations: 1}
space: {encoding.fraction: {choices: [0.5, 1.0]}}
objectives: [{mean: [validation/bits_per_byte@1x]}]
n_trials: 1
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The words for a choice that a package of one's own defines."""
    (tmp_path / "mine" / "conf" / "encoding").mkdir(parents=True)
    (tmp_path / "mine" / "my_turning.py").write_text(ENCODING)
    choice = "_target_: my_turning.Turning\n_partial_: true\nbase: 10000\nfraction: 1.0\n"
    (tmp_path / "mine" / "conf" / "encoding" / "turning.yaml").write_text(choice)
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'mine'}{os.pathsep}{ROOT}")
    yield [f"hydra.searchpath=[file://{tmp_path}/mine/conf]", "trust=my_turning"]
    sys.modules.pop("my_turning", None)


def test_a_stopped_run_goes_on_by_the_command_that_it_prints(mine, tiny, tmp_path, run_command):
    words = [*tiny, *mine, "encoding=turning", "trainer=cpu", "trainer.max_steps=8", "trainer.saves=4"]
    stopping = at_step(5).environment(tmp_path / "moment", signal.SIGTERM)
    stopping["PYTHONPATH"] = f"{stopping['PYTHONPATH']}{os.pathsep}{os.environ['PYTHONPATH']}"
    command = python("-m", "src.train", *words, "hydra.run.dir=outputs/run")
    stopped = Running(command, tmp_path, stopping).wait()
    assert stopped.status == 143, stopped
    told = next(line for line in stopped.output.splitlines() if line.startswith("resume with: "))
    assert told == "resume with: python -m src.train resume=outputs/run trust=my_turning"
    shutil.copytree(tmp_path / "outputs", tmp_path / "auto")

    ended = run_command("src.train", *shlex.split(told)[5:])
    assert ended.status == 0, ended
    auto = run_command("src.train", *words, "resume=auto", "hydra.run.dir=auto/another")
    assert auto.status == 0 and "a new one starts" not in auto.output, auto
    weights = [poslab.load(tmp_path / run / "run", trust="my_turning").state_dict() for run in ("outputs", "auto")]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())

    swapped = run_command(
        "src.evaluate", "run=outputs/run", *mine, "encoding@swap=turning", "lengths=[32]", "parts=[extrapolation]"
    )
    assert swapped.status == 0, swapped


def test_a_sweep_takes_it_and_trains_its_best_by_the_command_that_it_prints(mine, tiny, tmp_path, run_command):
    (tmp_path / "share.yaml").write_text(SWEEP)
    small = [word for word in tiny if not word.startswith(("trainer.max_steps", "trainer.validations"))]
    command = python("-m", "src.sweep", "sweep=share.yaml", "output=out", "trainer=cpu", *mine, *small)
    ended = Running(command, tmp_path, {"PYTHONPATH": os.environ["PYTHONPATH"]}).wait(200)
    assert ended.status == 0, ended
    told = next(line for line in ended.output.splitlines() if "--config-name best" in line)
    assert told.endswith("python -m src.train --config-dir out --config-name best trust=my_turning")
    again = run_command("src.train", *shlex.split(told.partition("src.train ")[2]), "hydra.run.dir=again")
    assert again.status == 0, again
