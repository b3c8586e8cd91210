"""Checkpoint files are whole at any moment, hold nothing but data, and fit the model however it was run."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import poslab
from poslab.runs.checkpoint import OWN_STATE, load_checkpoint, save_atomically
from poslab.runs.directory import RunDirectory
from poslab.training.checking import check
from tests.runs.trap import Trap
from tests.training.runs import run_of, small, stop_run, weights, words

SAVES_FOR_EVER = f"""
import sys
from pathlib import Path
import torch
from poslab.runs.checkpoint import save_atomically
torch.set_num_threads(1)
number = 0
while True:
    number += 1
    weight = torch.full((300_000,), float(number))
    save_atomically({{"number": number, "weight": weight, "callbacks": {{{OWN_STATE!r}: {{}}}}}}, Path(sys.argv[1]))
"""


def assert_whole(file: Path) -> int:
    """Loads a checkpoint of `SAVES_FOR_EVER`, and tells which it is."""
    checkpoint = load_checkpoint(file)
    assert torch.equal(checkpoint["weight"], torch.full((300_000,), float(checkpoint["number"])))
    return int(checkpoint["number"])


@pytest.mark.slow
def test_a_checkpoint_is_whole_while_it_is_replaced_and_after_a_kill_at_any_moment(tmp_path):
    files = [tmp_path / f"{number}" / "last.safetensors" for number in range(3)]
    savers = [subprocess.Popen([sys.executable, "-c", SAVES_FOR_EVER, str(file)]) for file in files]
    chance = random.Random(0)
    try:
        for file, saver in zip(files, savers, strict=True):
            while not file.exists():
                assert saver.poll() is None
                time.sleep(0.01)
            seen: set[int] = set()
            while len(seen) < 3:  # saves that happened while the file was read
                seen.add(assert_whole(file))
            time.sleep(chance.uniform(0, 0.05))
            saver.kill()
            saver.wait()
            assert_whole(file)
    finally:
        for saver in savers:
            saver.kill()
            saver.wait()


def test_a_save_that_fails_leaves_the_checkpoint_before_it(tmp_path):
    file = tmp_path / "last.safetensors"
    save_atomically({"number": 1, "callbacks": {OWN_STATE: {}}}, file)
    with pytest.raises(ValueError, match="only plain data, got function"):
        save_atomically({"number": 2, "unpicklable": lambda: None}, file)
    assert load_checkpoint(file)["number"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.safetensors"]


@pytest.mark.parametrize("value", [np.float64(1), defaultdict(int), {1}])
def test_a_state_that_could_not_be_read_again_is_not_saved(tmp_path, value):
    states = {OWN_STATE: {}, "Own": {"best": value}}
    with pytest.raises(ValueError, match=rf"^callbacks: .* Own .*, got {type(value).__name__}$"):
        save_atomically({"callbacks": states}, tmp_path / "last.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    folder = tmp_path_factory.mktemp("source")
    return run_of(small(folder), folder / "run")


def test_a_checkpoint_is_safetensors_and_json(source):
    for file in (source.best_checkpoint, source.last_checkpoint):
        checkpoint = load_checkpoint(file)
        with safe_open(file, "pt") as opened:
            assert json.loads(opened.metadata()["poslab"])["global_step"] == checkpoint["global_step"]
            assert torch.equal(opened.get_tensor("model.norm.weight"), checkpoint["state_dict"]["model.norm.weight"])


@pytest.mark.parametrize(
    "value", [(1, [2.5]), {0: {"step": torch.tensor(3.0)}}, {"$tensor": 3}, float("inf"), None, "é"]
)
def test_plain_data_is_read_as_it_was_written(tmp_path, value):
    save_atomically({"callbacks": {OWN_STATE: {}}, "value": value}, tmp_path / "last.safetensors")
    assert load_checkpoint(tmp_path / "last.safetensors")["value"] == value


def test_a_tensor_under_two_names_is_stored_once(tmp_path):
    weight = torch.rand(1000)
    weights = {"model.embedding": weight, "model.output": weight, "model.part": weight[::2]}
    save_atomically({"state_dict": weights, "callbacks": {OWN_STATE: {}}}, tmp_path / "last.safetensors")
    loaded = load_checkpoint(tmp_path / "last.safetensors")["state_dict"]
    assert all(torch.equal(loaded[name], value) for name, value in weights.items())
    assert (tmp_path / "last.safetensors").stat().st_size < 7000


def test_a_checkpoint_that_is_a_pickle_is_refused_without_running_it(tmp_path, source):
    evil, made = tmp_path / "evil.safetensors", tmp_path / "made"
    torch.save({**load_checkpoint(source.last_checkpoint), "surprise": Trap(made)}, evil)
    for key in ("init_from", "resume"):
        with pytest.raises(ValueError, match=f"^{key}: the checkpoint .*evil.safetensors is"):
            check_with(tmp_path, key, evil)
    assert not made.exists()


def check_with(folder: Path, key: str, checkpoint: Path) -> None:
    """Checks a run that begins with a checkpoint in one way or the other."""
    if key == "resume":
        check(small(folder), checkpoint)
    else:
        check(small(folder, f"init_from={checkpoint}"))


OTHERS = {"weight": torch.zeros(2)}


@pytest.mark.parametrize("key", ["init_from", "resume"])
@pytest.mark.parametrize(
    "damage, sentence",
    [
        (lambda file: os.truncate(file, file.stat().st_size // 2), "the checkpoint {} is damaged"),
        (lambda file: file.write_text("no checkpoint at all"), "the checkpoint {} is damaged"),
        (lambda file: file.unlink(), "there is no checkpoint {}"),
        (lambda file: save_file(OTHERS, file), "the checkpoint {} was not written"),
    ],
    ids=["half", "text", "missing", "of another project"],
)
def test_a_checkpoint_that_cannot_be_read_is_told_in_one_sentence_before_anything_slow(
    tmp_path, source, key, damage, sentence
):
    file = Path(shutil.copy(source.last_checkpoint, tmp_path))
    damage(file)
    with pytest.raises(ValueError) as error:
        check_with(tmp_path, key, file)
    assert str(error.value).startswith(f"{key}: {sentence.format(file)}")


def test_a_run_keeps_its_last_and_its_best_state_and_no_other(source):
    assert {file.name for file in source.checkpoints.iterdir()} == {"best.safetensors", "last.safetensors"}


@pytest.mark.slow
def test_a_compiled_model_has_checkpoints_that_load_with_and_without_compiling(tmp_path):
    plain = small(tmp_path, "encoding=none", "dataset.length_multiples=[1]")
    compiled = {**plain, "trainer": {**plain["trainer"], "compile": True}}
    alone = run_of(plain, tmp_path / "alone")
    for first, then in ((compiled, plain), (plain, compiled)):
        directory = tmp_path / f"{first is compiled}"
        run = stop_run(first, directory, step=1)  # and ends after step 2
        assert weights(run.last_checkpoint).keys() == weights(alone.last_checkpoint).keys()
        metrics = run_of(then, directory, checkpoint=run.last_checkpoint).metrics()
        for tag, value in alone.metrics().items():
            if tag.startswith("test/"):
                assert metrics[tag] == pytest.approx(value, rel=1e-4), tag
        assert poslab.load(directory).state_dict().keys() == poslab.load(alone.path).state_dict().keys()
    started = run_of({**compiled, "init_from": str(alone.path)}, tmp_path / "started")
    assert "starts afresh" not in started.log_file.read_text()


def test_a_run_does_not_go_on_with_another_text(tmp_path):
    config = small(tmp_path)
    run = stop_run(config, tmp_path / "run", step=1)
    before = (run.path / "tokenizer.json").read_bytes()
    (tmp_path / "text.txt").write_text(words(1200, seed=5))
    with pytest.raises(ValueError) as error:
        run_of(config, run.path, checkpoint=run.last_checkpoint)
    assert str(error.value).startswith("resume: the text or its tokenizer")
    assert (run.path / "tokenizer.json").read_bytes() == before
    (tmp_path / "text.txt").write_text(words(1200))
    assert run_of(config, run.path, checkpoint=run.last_checkpoint).is_finished
