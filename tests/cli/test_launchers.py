"""Jobs of -m side by side, by the launchers of Hydra's that this machine can have."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .running import ROOT, metrics

LAUNCHERS = {
    "joblib": ["hydra.launcher.n_jobs=2"],
    "submitit_local": ["hydra.launcher.timeout_min=5", "hydra.launcher.submitit_folder=submitit"],
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_trains_what_a_single_run_trains(launcher, start, alone, tiny, tmp_path):
    chosen = [f"hydra/launcher={launcher}", *LAUNCHERS[launcher], f"hydra.sweep.dir={tmp_path}/jobs"]
    ended = start("-m", *chosen, *tiny, "trainer=cpu", "encoding=rotary,alibi", imports=True).wait(200)

    assert ended.status == 0, ended
    runs = sorted(path.parent for path in tmp_path.glob("jobs/*/metrics.json"))
    assert [run.name.rpartition("_")[2] for run in runs] == ["rotary", "alibi"]
    assert metrics(runs[0]) == metrics(alone("rotary", "trainer=cpu", "encoding=rotary"))


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_job_that_fails_elsewhere_fails_the_command(launcher, start, tiny, tmp_path):
    chosen = [f"hydra/launcher={launcher}", *LAUNCHERS[launcher], f"hydra.sweep.dir={tmp_path}/jobs"]
    ended = start("-m", *chosen, *tiny, "trainer=cpu", "dataset.batch_size=0,4", imports=True).wait(200)

    assert ended.status == 2, ended
    assert len(list(tmp_path.glob("jobs/*/metrics.json"))) == 1


def test_slurm_on_a_machine_without_it_is_one_sentence(tmp_path):
    words = ["src.train", "-m", "hydra.sweep.dir=jobs", "seed=1,2", "hydra/launcher=submitit_slurm"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-m", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert [line for line in ended.stderr.splitlines() if "srun" in line] == ended.stderr.splitlines(), ended.stderr
    assert ended.stderr.startswith("error: hydra/launcher=submitit_slurm: ")
