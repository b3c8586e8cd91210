"""A run that is killed at any moments and resumed ends as one that was left alone."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from .running import DROPOUT, IN_THE_TEST, SAVE_EVERY, STEPS, Moment, assert_same_run, at_step

pytestmark = pytest.mark.slow

RANDOM = random.Random(1)
BETWEEN_A_VALIDATION_AND_ITS_CHECKPOINT = Moment(
    "poslab.training.checkpoints", "RunCheckpoints", "on_validation_end", f"arguments[0].global_step == {STEPS}"
)
MOMENTS = [
    Moment("poslab.runs.directory", "RunDirectory", "start"),  # before it is known
    at_step(RANDOM.randrange(2, SAVE_EVERY)),  # before the first checkpoint
    RANDOM.uniform(0.1, 0.5),
    Moment("pathlib", "Path", "replace", "arguments[0].name == 'last.safetensors'"),  # while it saves
    BETWEEN_A_VALIDATION_AND_ITS_CHECKPOINT,
    Moment("poslab.runs.directory", "RunDirectory", "finish"),  # before the figures of the test are kept
]
BETWEEN_TWO_CHECKPOINTS = Moment(
    "poslab.training.learner", "Learner", "on_before_optimizer_step", f"self.trainer.global_step == {STEPS // 2 + 7}"
)
MICRO_BATCHES = ["trainer.micro_batch_size=2"]


@pytest.mark.parametrize(
    ("name", "more", "moments"),
    [("dropout", [], MOMENTS), ("micro-batches", MICRO_BATCHES, [BETWEEN_TWO_CHECKPOINTS, IN_THE_TEST])],
    ids=["dropout", "micro-batches"],
)
def test_a_run_that_is_killed_again_and_again_ends_as_one_left_alone(name, more, moments, start, alone, tiny, tmp_path):
    """Kills it at moments, or seconds after it has begun, and moves its directory before it resumes the last time."""
    run = tmp_path / "outputs" / "run"
    overrides = [*tiny, *DROPOUT, *more]
    for number, moment in enumerate(moments):
        is_known = (run / "config.yaml").exists()
        how = way_to_resume(run, number, overrides) if is_known else [*overrides, f"hydra.run.dir={run}"]
        if isinstance(moment, Moment):
            ended = start(*how, environment=moment.environment(tmp_path / str(number), signal.SIGKILL)).wait()
        else:
            before = written(run / "config.yaml")
            running = start(*how)
            running.wait_until(lambda before=before: written(run / "config.yaml") != before)
            time.sleep(moment)
            ended = running.kill()
        assert ended.status == 137, ended
        assert not (run / "metrics.json").exists()
    moved = run.rename(run.with_name("moved"))
    ended = start(*way_to_resume(moved, len(moments), overrides)).wait()
    assert ended.status == 0, ended
    assert_same_run(moved, alone(name, *DROPOUT, *more))
    assert [path.name for path in moved.parent.iterdir()] == ["moved"]


def way_to_resume(run: Path, number: int, overrides: list[str]) -> list[str]:
    """By its directory, by itself, and by a checkpoint in turn."""
    last = run / "checkpoints" / "last.safetensors"
    return [[f"resume={run}"], [*overrides, "resume=auto"], [f"resume={last if last.exists() else run}"]][number % 3]


def written(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0


def test_a_finished_run_is_left_as_it_is(start, undisturbed, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    ended = start(f"resume={undisturbed}").wait()
    assert (ended.status, ended.errors) == (0, "")
    assert ended.output.split() == f"{undisturbed} is finished already: see {undisturbed}/metrics.json".split()
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")} == before
    assert not any((tmp_path / "outputs").iterdir())


def test_a_run_that_is_being_trained_is_not_trained_twice(start, undisturbed, dropout, tmp_path):
    run = tmp_path / "run"
    running = start(*dropout, f"hydra.run.dir={run}")
    running.wait_until(lambda: (run / "metrics.csv").exists())
    running.process.send_signal(signal.SIGSTOP)
    ended = start("resume=run").wait()
    assert (ended.status, ended.errors) == (2, "error: run is being trained by another process at this moment\n")
    running.process.send_signal(signal.SIGCONT)
    assert running.wait().status == 0
    assert_same_run(run, undisturbed)
    assert json.loads((run / "environment.json").read_text()).keys().isdisjoint({"resumed"})


def test_where_a_run_goes_on_is_written_beside_where_it_began(start, undisturbed, tmp_path):
    run = shutil.copytree(undisturbed, tmp_path / "run")
    (run / "metrics.json").unlink()
    began = json.loads((run / "environment.json").read_text())
    assert start("resume=run").wait().status == 0
    environment = json.loads((run / "environment.json").read_text())
    (resumed,) = environment.pop("resumed")
    assert environment == began
    assert resumed["packages"] == began["packages"] and "resume=run" in resumed["command"]


def test_auto_starts_a_new_run_where_none_of_the_same_configuration_is_unfinished(
    start, undisturbed, dropout, tmp_path
):
    finished = tmp_path / "outputs" / "finished"
    shutil.copytree(undisturbed, finished)
    other = shutil.copytree(finished, tmp_path / "outputs" / "other")
    (other / "metrics.json").unlink()
    (other / "config.yaml").write_text((other / "config.yaml").read_text().replace("seed: 1", "seed: 2"))
    ended = start(*dropout, "resume=auto").wait()
    assert ended.status == 0, ended
    (new,) = set((tmp_path / "outputs").iterdir()) - {finished, other}
    assert_same_run(new, finished)
    assert not (other / "metrics.json").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["resume=run", "encoding=alibi"], "another encoding"),
        (["resume=run/checkpoints/worst.safetensors"], "resume=run/checkpoints/worst.safetensors is not"),
    ],
)
def test_what_cannot_be_resumed_is_said_in_one_sentence(given, said, start, undisturbed, tmp_path):
    run = shutil.copytree(undisturbed, tmp_path / "run")
    (run / "metrics.json").unlink()
    ended = start(*given).wait()
    assert (ended.status, ended.output) == (2, ""), ended
    (mistake,) = (line for line in ended.errors.splitlines() if not line.startswith("hint: "))
    assert said in mistake
    assert [path.name for path in tmp_path.iterdir() if path.name != "outputs"] == ["run"]
