"""A run that is killed at any moments and resumed ends as one that was left alone."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .running import STEPS, VALIDATE_EVERY, Running, assert_same_run, recorded

pytestmark = pytest.mark.slow


def while_it_imports(running: Running, run: Path) -> None:
    time.sleep(random.Random(1).uniform(0.1, 1.5))


def before_the_first_checkpoint(running: Running, run: Path) -> None:
    running.wait_until(lambda: recorded(run, 5))
    assert not (run / "checkpoints" / "last.ckpt").exists()


def between_two_checkpoints(running: Running, run: Path) -> None:
    step = random.Random(2).randrange(VALIDATE_EVERY + 5, 2 * VALIDATE_EVERY, 5)
    running.wait_until(lambda: recorded(run, step))


def between_a_validation_and_its_checkpoint(running: Running, run: Path) -> None:
    running.wait_until(lambda: recorded(run, 3 * VALIDATE_EVERY, "validation"))


def while_it_saves(running: Running, run: Path) -> None:
    running.wait_until(lambda: recorded(run, 4 * VALIDATE_EVERY, "validation"))
    running.wait_until((run / "checkpoints" / ".last.ckpt.writing").exists)


def while_it_is_tested(running: Running, run: Path) -> None:
    last = run / "checkpoints" / "last.ckpt"
    running.wait_until(lambda: recorded(run, STEPS, "validation"))
    before = last.stat().st_mtime_ns
    running.wait_until(lambda: last.stat().st_mtime_ns > before)


@pytest.mark.parametrize(
    ("name", "more", "moments"),
    [
        (
            "dropout",
            [],
            [
                while_it_imports,
                before_the_first_checkpoint,
                between_a_validation_and_its_checkpoint,
                while_it_is_tested,
            ],
        ),
        ("micro-batches", ["trainer.micro_batch_size=2"], [between_two_checkpoints, while_it_saves]),
    ],
)
def test_a_run_that_is_killed_again_and_again_ends_as_one_left_alone(
    name: str,
    more: list[str],
    moments: list[Callable[[Running, Path], None]],
    start: Callable[..., Running],
    alone: Callable[..., Path],
    tiny: list[str],
    tmp_path: Path,
) -> None:
    run = tmp_path / "outputs" / "run"
    overrides = ["trainer=cpu", "model.dropout=0.1", *more]
    anew = [*tiny, *overrides, f"hydra.run.dir={run}"]
    by_its_directory = [f"resume={run}"]
    by_itself = [*tiny, *overrides, "resume=auto"]
    resumed = 0
    for moment in moments:
        running = start(*(anew if not run.exists() else [by_its_directory, by_itself][resumed % 2]))
        resumed += run.exists()
        moment(running, run)
        assert running.kill().status == 137
        assert not (run / "metrics.json").exists()
    ended = start(*[by_its_directory, by_itself][resumed % 2]).wait()
    assert ended.status == 0, ended
    assert_same_run(run, alone(name, *overrides))
    assert [path.name for path in run.parent.iterdir()] == ["run"], "a resumed run left a directory of its own"


def test_a_directory_that_was_moved_and_holds_no_checkpoint_starts_anew(
    start: Callable[..., Running], alone: Callable[..., Path], tmp_path: Path
) -> None:
    run = tmp_path / "moved"
    run.mkdir()
    shutil.copy(alone("dropout", "trainer=cpu", "model.dropout=0.1") / "config.yaml", run)
    ended = start(f"resume={run}").wait()
    assert ended.status == 0, ended
    assert_same_run(run, alone("dropout"))


def test_a_checkpoint_of_a_run_that_was_moved_resumes_it(
    start: Callable[..., Running], alone: Callable[..., Path], tiny: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "moved"
    shutil.copytree(alone("dropout", "trainer=cpu", "model.dropout=0.1"), run)
    (run / "metrics.json").unlink()  # as if it had been killed after its test
    shutil.copy(run / "checkpoints" / "best.ckpt", run / "checkpoints" / "mine.ckpt")
    ended = start("resume=moved/checkpoints/mine.ckpt", "trainer.max_steps=120").wait()
    assert ended.status == 0, ended
    (run / "checkpoints" / "mine.ckpt").unlink()
    assert_same_run(run, alone("dropout"))


def test_a_finished_run_is_left_as_it_is(
    start: Callable[..., Running], alone: Callable[..., Path], tmp_path: Path
) -> None:
    run = alone("dropout", "trainer=cpu", "model.dropout=0.1")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    ended = start(f"resume={run}").wait()
    assert (ended.status, ended.errors) == (0, "")
    assert ended.output.split() == f"{run} is finished already: see {run}/metrics.json".split()
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert not any((tmp_path / "outputs").iterdir())


def test_auto_starts_a_new_run_where_none_of_the_same_configuration_is_unfinished(
    start: Callable[..., Running], alone: Callable[..., Path], tiny: list[str], tmp_path: Path
) -> None:
    finished = tmp_path / "outputs" / "finished"
    shutil.copytree(alone("dropout", "trainer=cpu", "model.dropout=0.1"), finished)
    other = shutil.copytree(finished, tmp_path / "outputs" / "other")
    (other / "metrics.json").unlink()
    (other / "config.yaml").write_text((other / "config.yaml").read_text().replace("seed: 1", "seed: 2"))
    ended = start(*tiny, "trainer=cpu", "model.dropout=0.1", "resume=auto").wait()
    assert ended.status == 0, ended
    new = [path for path in (tmp_path / "outputs").iterdir() if path not in (finished, other)]
    assert len(new) == 1
    assert_same_run(new[0], finished)
    assert not (other / "metrics.json").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["resume=run", "encoding=alibi"], "resume=run goes on with the run's own configuration, which has another encoding"),
        (["resume=run", "optimizer.lr=1e-2"], "which has another optimizer.lr"),
        (["resume=rum"], "resume=rum: there is no such run directory or checkpoint; did you mean run?"),
        (["resume=run/checkpoints/worst.ckpt"], "resume=run/checkpoints/worst.ckpt: there is no such run directory"),
        (["resume=run"], "the checkpoint run/checkpoints/last.ckpt is damaged"),
    ],
)
def test_what_cannot_be_resumed_is_said_in_one_sentence(
    given: list[str], said: str, start: Callable[..., Running], alone: Callable[..., Path], tmp_path: Path
) -> None:
    run = shutil.copytree(alone("dropout", "trainer=cpu", "model.dropout=0.1"), tmp_path / "run")
    (run / "metrics.json").unlink()
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    ended = start(*given).wait()
    assert (ended.status, ended.output) == (2, ""), ended
    assert len(ended.errors.splitlines()) == 1
    assert said in ended.errors
    assert [path.name for path in tmp_path.iterdir() if path.name != "outputs"] == ["run"]
