"""A run of somebody else reaches no server and writes nowhere else, and its files are those that were written."""

from __future__ import annotations

import hmac
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import poslab
from poslab.configuration.build import DATA, build
from poslab.encodings import EncodingFactory
from poslab.evaluation.opening import open_run
from poslab.io.files import write_atomically
from poslab.runs import directory
from poslab.runs.checkpoint import CONFIG, OWN_STATE, load_checkpoint, save_atomically
from poslab.runs.directory import RunDirectory, read_with_checksum, write_with_checksum
from poslab.runs.errors import UntrustedRunError
from poslab.runs.recipe import recipe_of
from poslab.training.checking import check
from poslab.training.resume import plan
from tests.written_run import write_run

HUB = {"_target_": "poslab.data.hub_text.HubText", "deduplicate": False, "path": "csv", "data_files": None}
SERVER = "127.0.0.1:9"


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Addresses that are looked up or connected to, none of which answers."""
    reached: list[Any] = []

    def refuse(*arguments: Any, **keywords: Any) -> Any:
        reached.append(arguments)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield reached


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache, and with it the key of a user, for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "poslab"


def edit(run: RunDirectory, group: str, **change: Any) -> None:
    """Change keys of a group of config.yaml."""
    config = yaml.safe_load(run.config_file.read_text())
    config[group] = config[group] | change
    run.config_file.write_text(yaml.safe_dump(config))


def folder_of_addresses(folder: Path) -> str:
    folder.mkdir()
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: x\n  data_files: http://{SERVER}/x.csv\n---\n")
    return str(folder)


REMOTE: dict[str, dict[str, Any]] = {
    "http": {"data_files": f"http://{SERVER}/x.csv"},
    "zip": {"data_files": {"train": [f"zip://a.csv::http://{SERVER}/x.zip"]}},
    "chain": {"data_files": "simplecache::/etc/hostname"},
    "ssh": {"data_files": f"ssh://{SERVER}/x.csv"},
    "streamed": {"data_files": f"http://{SERVER}/x.csv", "streaming": True},
    "hub": {"path": "owner/name"},
    "folder": {"path": folder_of_addresses},
}


@pytest.mark.parametrize("change", REMOTE.values(), ids=REMOTE)
def test_the_run_of_a_stranger_reaches_no_server(run, tmp_path, reached, change):
    change = {key: value(tmp_path / "data") if callable(value) else value for key, value in change.items()}
    edit(run, "dataset", **HUB | change)
    with pytest.raises(UntrustedRunError) as error:
        open_run(run.path)
    assert str(run.path) in str(error.value) and not reached
    assert poslab.load(run.path) and not reached


@pytest.mark.parametrize("change", [{"path": "csv"}, {"path": "imagefolder"}], ids=str)
def test_local_files_are_read_without_a_server(run, tmp_path, reached, change):
    file = tmp_path / "a.csv"
    file.write_text("text\n" + "\n".join(f"{number} words of a document" * 20 for number in range(60)))
    edit(run, "dataset", **HUB | change | {"data_files": str(file)})
    if change["path"] == "csv":
        open_run(run.path)
    else:
        with pytest.raises(ValueError, match=r"^dataset\.(column|data_files)"):
            open_run(run.path)
    assert not reached


@pytest.mark.parametrize("path", ["pandas", "sql", "webdataset", "hdf5", f"ssh://{SERVER}/x", "buckets/a/b/c", "name"])
def test_other_formats_are_refused_whatever_is_trusted(run, tmp_path, reached, path):
    (tmp_path / "a.pkl").write_bytes(b"x")
    edit(run, "dataset", **HUB | {"path": path, "data_files": str(tmp_path / "a.pkl")})
    for trust in ((), DATA):
        with pytest.raises(ValueError, match=rf"^dataset\.path must be .*got {path!r}"):
            open_run(run.path, trust=trust)
    assert not reached


def test_the_run_of_a_stranger_writes_into_no_other_cache(run, tmp_path, own_cache):
    edit(run, "dataset", cache_dir=str(tmp_path / "elsewhere"))
    with pytest.raises(UntrustedRunError, match=r"dataset\.cache_dir="):
        open_run(run.path)
    assert not (tmp_path / "elsewhere").exists()
    edit(run, "dataset", cache_dir=str(own_cache / "within"))
    assert recipe_of(run).data()


def test_trust_in_data_allows_it_and_prints_the_source(run, capsys):
    edit(run, "dataset", **HUB | {"path": "owner/name"})
    assert recipe_of(RunDirectory(run.path, (DATA,))).data()
    assert "owner/name" in capsys.readouterr().err


def test_trust_in_data_trusts_no_package(tmp_path, monkeypatch):
    (tmp_path / "data.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"_target_ names data\.Payload, which"):
        build({"encoding": {"_target_": "data.Payload"}, "trust": [DATA]}, "encoding", EncodingFactory)


def test_a_run_of_ones_own_reads_its_data_until_it_is_edited_or_the_key_is_another(tmp_path, own_cache):
    run = write_run(tmp_path / "own", "dataset=hub", "dataset.path=owner/name")
    (tmp_path / "moved").symlink_to(run.path)
    assert recipe_of(run).data() and recipe_of(RunDirectory.of(tmp_path / "moved")).data()
    assert (own_cache / "key").stat().st_mode & 0o077 == 0
    os.utime(run.config_file, (1, 1))
    run.start({**run.config(), "seed": 7}, {})  # as it is resumed
    assert run.config_file.stat().st_mtime > 1  # which makes it the newest
    assert recipe_of(run).seed == 1 and recipe_of(run).data()

    written, key = run.config_file.read_text(), (own_cache / "key").read_bytes()
    edit(run, "dataset", path="another/name")
    with pytest.raises(UntrustedRunError):
        recipe_of(run).data()
    run.config_file.write_text(written)
    (own_cache / "key").write_bytes(key[::-1])
    with pytest.raises(UntrustedRunError):
        recipe_of(run).data()
    (own_cache / "key").unlink()
    with pytest.raises(UntrustedRunError):
        recipe_of(run).data()


def test_a_run_that_was_killed_as_it_began_is_ones_own(tmp_path, monkeypatch):
    written: list[Path] = []

    def killed(path: Path, text: str) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write_atomically(path, text)

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(directory, "write_atomically", killed)
        write_run(tmp_path / "own", "dataset=hub", "dataset.path=owner/name")
    run = RunDirectory(tmp_path / "own")
    assert run.is_fresh  # `resume=` begins it anew
    assert recipe_of(write_run(run.path, "dataset=hub", "dataset.path=owner/name")).data()


def test_a_damaged_key_signs_nothing_and_is_replaced(tmp_path, own_cache):
    run = write_run(tmp_path / "own", "dataset=hub", "dataset.path=owner/name")
    (own_cache / "key").write_bytes(b"")
    known_to_all = hmac.new(b"", json.dumps(run.config_hashes(), sort_keys=True).encode(), "sha256").hexdigest()
    run.environment_file.write_text(json.dumps({"signature": known_to_all}))
    with pytest.raises(UntrustedRunError):
        recipe_of(run).data()
    assert recipe_of(write_run(tmp_path / "new", "dataset=hub", "dataset.path=owner/name")).data()
    assert len((own_cache / "key").read_bytes()) == 32


def test_loggers_elsewhere_are_those_of_a_run_that_is_resumed_unless_they_are_typed(run):
    wandb = {"_target_": "poslab.training.trackers.WeightsAndBiases", "project": "x"}
    config = yaml.safe_load(run.config_file.read_text())
    typed = {**config, "resume": str(run.path)}
    assert plan(typed, run.path / "new", []).logs_to == []
    edit(run, "logger", wandb=wandb)
    assert plan(typed, run.path / "new", []).logs_to == ["wandb"]
    csv = f"logger.csv._target_={config['logger']['csv']['_target_']}"
    assert plan(typed, run.path / "new", [csv]).logs_to == ["wandb"]
    typed["logger"] = config["logger"] | {"wandb": wandb}
    assert plan(typed, run.path / "new", ["logger=[tensorboard,csv,wandb]"]).logs_to == []


def with_hashes(run: RunDirectory) -> None:
    """Let the checkpoints of a run know its configuration, as training does."""
    for file in (run.best_checkpoint, run.last_checkpoint):
        content = load_checkpoint(file)
        content["callbacks"][OWN_STATE] = {CONFIG: run.config_hashes()}
        save_atomically(content, file)


EDITS: list[tuple[str, dict[str, Any]]] = [
    ("encoding", {"base": 500.0}),
    ("encoding", {"fraction": 0.5}),
    ("encoding", {"layout": "interleaved"}),
    ("encoding", {"scaling": {"_target_": "poslab.encodings.rotary.yarn.yarn", "training_length": 64, "factor": 4}}),
    ("model", {"window": 8}),
    ("positions", {"_target_": "poslab.encodings.sampling.randomized.Shifted"}),
    ("optimizer", {"lr": 1.0}),
]


@pytest.mark.parametrize(("group", "change"), EDITS, ids=str)
def test_a_configuration_of_other_logits_or_another_training_does_not_load(run, group, change):
    with_hashes(run)
    edit(run, group, **change)
    with pytest.raises(ValueError, match=rf"config\.yaml was edited, .* another {group};"):
        poslab.load(run.path)
    own = yaml.safe_load(run.config_file.read_text())
    with pytest.raises(ValueError, match=rf"^resume: .*another {group};"):
        check({**run.config(), "seed": own["seed"]}, run.last_checkpoint)


def test_a_configuration_in_another_order_is_the_same_one(run, capsys):
    with_hashes(run)
    before = poslab.load(run.path)
    run.config_file.write_text(yaml.safe_dump(dict(reversed(yaml.safe_load(run.config_file.read_text()).items()))))
    after = poslab.load(run.path)
    assert not capsys.readouterr().err
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))


def test_data_that_has_moved_is_a_warning(run, capsys):
    with_hashes(run)
    edit(run, "dataset", num_workers=1)
    edit(run, "trainer", devices=2)
    poslab.load(run.path)
    assert "dataset, trainer" in capsys.readouterr().err


@pytest.mark.parametrize("known", [{}, {CONFIG: None}, {CONFIG: {}}])
def test_a_checkpoint_that_knows_no_configuration_loads(run, known, capsys):
    content = load_checkpoint(run.best_checkpoint)
    content["callbacks"][OWN_STATE] = known
    save_atomically(content, run.best_checkpoint)
    edit(run, "encoding", base=500.0)
    assert poslab.load(run.path) and not capsys.readouterr().err


def test_numbers_of_a_finished_run_are_those_that_were_written(run):
    metrics = {"test/loss": 1.25, "test/loss@64": float("nan"), "steps": 4}
    run.finish(metrics)
    assert str(run.metrics()) == str(metrics)
    run.metrics_file.write_text(run.metrics_file.read_text().replace("1.25", "1.15"))
    with pytest.raises(ValueError, match=r"metrics\.json is damaged, or"):
        run.metrics()
    run.metrics_file.write_text(json.dumps(metrics))  # as earlier versions wrote it
    assert str(run.metrics()) == str(metrics)


def test_the_first_hashes_of_a_run_are_those_that_were_written(run):
    write_with_checksum(run.start_file, {"batch": "ab", "weights": None})
    assert read_with_checksum(run.start_file) == {"batch": "ab", "weights": None}
    run.start_file.write_text(run.start_file.read_text().replace("ab", "cd"))
    with pytest.raises(ValueError, match=r"start\.json is damaged"):
        read_with_checksum(run.start_file)
