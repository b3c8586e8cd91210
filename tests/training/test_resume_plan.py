"""The run that `resume` means, read from run directories alone."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from poslab.runs.directory import RunDirectory
from poslab.training.checking import check
from poslab.training.fit import train
from poslab.training.resume import plan
from tests.training.runs import composed, small


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return composed("encoding=rotary")


def resumed(config: dict[str, Any], resume: Any) -> dict[str, Any]:
    return {**config, "resume": resume}


def made(path: Path, config: dict[str, Any], *, age: int = 0, saved: bool = True, finished: bool = False) -> Path:
    """The directory of a run that was started some seconds ago."""
    run = RunDirectory(path)
    run.start(config, {})
    if saved:
        run.last_checkpoint.touch()
    if finished:
        run.finish({"test/loss": 1.0})
    written = run.config_file.stat().st_mtime - age
    os.utime(run.config_file, (written, written))
    return path


def test_a_new_run_is_kept_where_it_is_said(tmp_path, config):
    run, its_config, checkpoint, *_ = plan(config, tmp_path / "new", [])
    assert (run.path, its_config, checkpoint) == (tmp_path / "new", config, None)


def test_a_directory_that_holds_a_run_is_not_overwritten(tmp_path, config):
    path = made(tmp_path / "run", config)
    with pytest.raises(ValueError, match=f"^{path} already contains a run: resume it"):
        plan(config, path, [])


def test_a_run_whose_directory_is_taken_meanwhile_moves_beside_it_unless_it_was_named(tmp_path):
    """Runs that begin in the same second have the same directory."""
    config = small(tmp_path, "trainer.max_steps=1")
    plans = [plan(config, tmp_path / "run", [], is_named=is_named) for is_named in (True, True, False, False)]
    first = train(plans[0], check(config))
    before = {file: file.read_bytes() for file in first.path.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match="run already contains a run: resume"):
        train(plans[1], check(config))
    with RunDirectory(tmp_path / "run_2").held():
        assert train(plans[2], check(config)).path == tmp_path / "run_3"
    assert train(plans[3], check(config)).path == tmp_path / "run_2"
    assert before == {file: file.read_bytes() for file in first.path.rglob("*") if file.is_file()}


def test_auto_takes_the_newest_unfinished_run_of_the_same_configuration(tmp_path, config):
    made(tmp_path / "old", config, age=300)
    wanted = made(tmp_path / "multirun" / "0_rotary", config, age=200)
    made(tmp_path / "finished", config, age=100, finished=True)
    made(tmp_path / "other seed", {**config, "seed": 2})
    made(tmp_path / "other encoding", {**config, "encoding": {**config["encoding"], "base": 5.0}})
    found = plan(resumed(config, "auto"), tmp_path / "new", [])
    assert (found.run.path, found.config, found.remark) == (wanted, config, None)
    assert found.checkpoint == wanted / "checkpoints" / "last.safetensors"


def remark(config: dict[str, Any], folder: Path) -> str | None:
    return plan(resumed(config, "auto"), folder / "new", []).remark


def test_auto_that_finds_nothing_says_so(tmp_path, config):
    made(tmp_path / "finished", config, finished=True)
    assert str(remark(config, tmp_path)).startswith(f"resume=auto: there is no unfinished run in {tmp_path}")
    assert plan(config, tmp_path / "new", []).remark is None


def test_auto_names_the_nearest_unfinished_run_and_the_key_that_differs(tmp_path, config):
    far = made(tmp_path / "far", {**config, "seed": 2, "attention": "dense"})
    near = made(tmp_path / "near", {**config, "optimizer": {**config["optimizer"], "lr": 0.5}}, age=300)
    lr = config["optimizer"]["lr"]
    assert str(remark(config, tmp_path)).endswith(f"{near}, has optimizer.lr=0.5 where this one has {lr}")
    shutil.rmtree(near)
    found = str(remark(config, tmp_path))
    assert f"{far}, has seed=2" in found and found.endswith("1 (and 1 more keys)")


@pytest.mark.parametrize("content", ["- a\n- list\n", "key: [broken\n", "", "text", "\0\1"])
def test_auto_passes_over_files_of_other_programs(tmp_path, config, content):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "config.yaml").write_text(content)
    wanted = made(tmp_path / "run", config, age=100)
    assert plan(resumed(config, "auto"), tmp_path / "new", []).run.path == wanted


def test_auto_starts_a_run_again_that_was_killed_before_it_saved(tmp_path, config):
    path = made(tmp_path / "run", config, saved=False)
    run, _, checkpoint, *_ = plan(resumed(config, "auto"), tmp_path / "new", [])
    assert (run.path, checkpoint) == (path, None)


def test_a_run_goes_on_under_its_own_configuration(tmp_path, config):
    own = {**config, "seed": 7}
    path = made(tmp_path / "run", own)
    run, its_config, checkpoint, *_ = plan(resumed(config, str(path)), tmp_path / "new", [])
    assert (run.path, its_config, checkpoint) == (path, own, path / "checkpoints" / "last.safetensors")


def test_a_checkpoint_can_be_named_itself(tmp_path, config):
    path = made(tmp_path / "run", config)
    best = path / "checkpoints" / "best.safetensors"
    best.touch()
    run, _, checkpoint, *_ = plan(resumed(config, str(best)), tmp_path / "new", [])
    assert (run.path, checkpoint) == (path, best)


@pytest.mark.slow
def test_auto_leaves_a_run_alone_that_is_being_trained(tmp_path, config):
    path = made(tmp_path / "run", config)
    with RunDirectory(path).held():
        assert plan(resumed(config, "auto"), tmp_path / "new", []).run.path == tmp_path / "new"
    assert plan(resumed(config, "auto"), tmp_path / "new", []).run.path == path


def test_a_finished_run_that_is_named_is_given_for_what_it_is(tmp_path, config):
    path = made(tmp_path / "run", config, finished=True)
    run, _, _, *_ = plan(resumed(config, str(path)), tmp_path / "new", [])
    assert run.path == path and run.is_finished


def test_the_same_choices_may_be_repeated(tmp_path, config):
    path = made(tmp_path / "run", config)
    assert plan(resumed(config, str(path)), tmp_path / "new", ["encoding=rotary", "seed=1"]).run.path == path


@pytest.mark.parametrize(
    "override, key",
    [
        *[("seed=2", "seed"), ("encoding=alibi", "encoding"), ("encoding.base=7", "encoding.base")],
        ("+trainer.lightning.benchmark=true", "trainer.lightning"),
        ("+logger.more._target_=poslab.training.loggers.MetricsCsv", "logger.more"),
        ("callbacks=[early_stopping]", "callbacks.early_stopping"),
        ("temperature=log_n", "temperature"),
        *((recipe, "model.d_model") for recipe in ("debug=fast", "size=small", "experiment=small_gpu")),
    ],
)
def test_another_choice_is_refused_by_its_key(tmp_path, config, override, key):
    path = made(tmp_path / "run", config)
    with pytest.raises(ValueError) as error:
        plan(resumed(composed(override), str(path)), tmp_path / "new", [override])
    assert str(error.value).startswith(f"resume={path} uses the run's own configuration")
    assert f"another {key}:" in str(error.value) and str(error.value).endswith(f"init_from={path}")


@pytest.mark.parametrize("with_folder", [True, False])
def test_a_directory_without_a_run_starts_one_there(tmp_path, config, with_folder):
    path = tmp_path / "empty"
    (path / "checkpoints" if with_folder else path).mkdir(parents=True)
    run, its_config, checkpoint, *_ = plan(resumed(config, str(path)), tmp_path / "new", ["seed=1"])
    assert (run.path, its_config, checkpoint) == (path, config, None)


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("todo.txt", "", r"{0} is not a run .*config\.yaml$"),
        ("config.yaml", "model: gpt2\n", r"{0}/config\.yaml is not .*: model must contain keys"),
        ("config.yaml", "name: gpt2\n", r"resume={0} is not a run .* no adapt"),
        ("config.yaml", "- a\n- list\n", r"{0}/config\.yaml must contain keys"),
        ("config.yaml", "key: [broken\n", r"{0}/config\.yaml, line 2 is not"),
    ],
)
def test_a_directory_of_something_else_is_refused(tmp_path, config, name, content, sentence):
    path = tmp_path / "theirs"
    path.mkdir()
    (path / name).write_text(content)
    with pytest.raises(ValueError, match=f"^{sentence.format(path)}"):
        plan(resumed(config, str(path)), tmp_path / "new", [])


def test_a_path_that_is_not_there_is_refused_with_the_nearest(tmp_path, config):
    made(tmp_path / "2026_rotary", config)
    with pytest.raises(ValueError) as error:
        plan(resumed(config, f"{tmp_path}/2026_rotry"), tmp_path / "new", [])
    assert str(error.value).startswith(f"resume={tmp_path}/2026_rotry ")
    assert str(error.value).endswith(f"did you mean '{tmp_path}/2026_rotary'?")


def test_it_makes_nothing(tmp_path, config):
    for resume in (None, "auto"):
        plan(resumed(config, resume), tmp_path / "outputs" / "new", [])
    assert list(tmp_path.iterdir()) == []
