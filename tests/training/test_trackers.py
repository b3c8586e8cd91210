"""Loggers of other services get what TensorBoard gets, read by the services' own readers."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import multiprocessing

from poslab.runs.directory import RunDirectory
from poslab.training.checking import check
from poslab.training.components import begin_recording, loggers_of
from poslab.training.trackers import MLflow
from tests.training.runs import recorded, run_of, small, stop_run

Values = dict[str, list[tuple[int, float]]]

MORE = ("trainer.max_steps=6", "trainer.validations=3")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No service is asked."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def of_tensorboard(run: RunDirectory) -> Values:
    """The metrics of the events, without those of the encoding and of lengths."""
    events = EventAccumulator(str(run.path), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.partition("/")[0] in ("train", "validation", "test")]
    return {tag: [(event.step, pytest.approx(event.value, rel=1e-6)) for event in events.Scalars(tag)] for tag in tags}


def logged(file: Path) -> Iterator[bytes]:
    """Yield the records of a log in LevelDB's format, behind the seven bytes of W&B's header."""
    data, place, record = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        _, size, part = struct.unpack_from("<IHB", data, place)
        if part == 0:  # the rest of a block of 32 KiB
            place += -place % 2**15
            continue
        record += data[place + 7 : place + 7 + size]
        place += 7 + size
        if -place % 2**15 < 7:
            place += -place % 2**15
        if part in (1, 4):  # a whole record, or the last part of one
            yield record
            record = b""


def of_wandb(run: RunDirectory) -> Values:
    from wandb.proto.wandb_internal_pb2 import Record

    found: Values = {}
    for file in sorted(run.path.parent.glob("wandb/offline-run-*/*.wandb")):
        for record in map(Record.FromString, logged(file)):
            items = {item.key or "/".join(item.nested_key): float(item.value_json) for item in record.history.item}
            for tag, value in items.items():
                if tag != "trainer/global_step" and not tag.startswith("_"):
                    found.setdefault(tag, []).append((int(items["trainer/global_step"]), value))
    return found


def of_mlflow(run: RunDirectory) -> Values:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{run.path.parent / 'mlflow.db'}")
    identity = (run.path / "mlflow_id").read_text().strip()
    kept = client.get_run(identity)
    assert kept.info.status == "FINISHED"
    assert kept.data.params["encoding"] == "rotary"
    names = {tag.replace("_at_", "@"): tag for tag in kept.data.metrics}
    return {
        tag: [(metric.step, metric.value) for metric in client.get_metric_history(identity, name)]
        for tag, name in names.items()
    }


READERS: dict[str, Callable[[RunDirectory], Values]] = {"wandb": of_wandb, "mlflow": of_mlflow}


@pytest.mark.parametrize("name", READERS)
def test_a_missing_package_is_named(name, tmp_path, monkeypatch):
    monkeypatch.setattr(f"lightning.pytorch.loggers.{name}._{name.upper()}_AVAILABLE", False)
    with pytest.raises(ValueError, match=rf"^logger {name} needs a package.*\[loggers\]"):
        loggers_of(check(small(tmp_path, f"logger={name}")), tmp_path, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_it_gets_what_tensorboard_gets_and_goes_on_when_the_run_resumes(name, tmp_path):
    pytest.importorskip(name)
    config = small(tmp_path, *MORE, f"logger=[tensorboard,csv,{name}]")
    stopped = stop_run(config, tmp_path / "runs" / "run", step=2)
    identity = (stopped.path / f"{name}_id").read_text()
    run = run_of(config, stopped.path, stopped.last_checkpoint)
    assert (run.path / f"{name}_id").read_text() == identity
    expected, found = of_tensorboard(run), READERS[name](run)
    for tag, values in expected.items():
        assert dict(found[tag]) == dict(values), tag
    assert {tag for _, tag, _ in recorded(run)} <= found.keys()


def test_a_server_that_does_not_answer_is_one_sentence_that_names_it(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    logger = MLflow(tmp_path, None)
    for call in (lambda: begin_recording([logger], {"seed": 1}), lambda: logger.log_metrics({"train/loss": 1.0}, 1)):
        with pytest.raises(ValueError, match=r"^logger MLflow: .*127\.0\.0\.1") as error:
            call()
        assert "\n" not in str(error.value)


def begin(number: int, folder: str) -> None:
    """Record a run in a process of its own."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    directory = Path(folder, f"run{number}")
    directory.mkdir()
    logger = MLflow(directory, None)
    logger.begin({"seed": number})
    logger.log_metrics({"train/loss": number}, 1)
    logger.finish({})


@pytest.mark.slow
def test_processes_that_begin_at_once_share_a_database(tmp_path):
    tracking = pytest.importorskip("mlflow.tracking")
    multiprocessing.start_processes(begin, (str(tmp_path),), 4, start_method="forkserver")
    client = tracking.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = [found for found in client.search_experiments() if found.name == "poslab"]
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.metrics["train/loss"] for run in runs) == [0, 1, 2, 3]


@pytest.mark.slow
def test_two_processes_of_a_run_record_one_run(tmp_path):
    pytest.importorskip("mlflow")
    run = run_of(
        small(tmp_path, *MORE, "trainer=ddp_cpu", "logger=[tensorboard,csv,mlflow]"), tmp_path / "runs" / "run"
    )
    found = of_mlflow(run)
    assert all(dict(found[tag]) == dict(values) for tag, values in of_tensorboard(run).items())


@pytest.mark.slow
def test_an_id_that_is_none_is_refused(tmp_path):
    pytest.importorskip("mlflow")
    config = small(tmp_path, *MORE, "logger=[csv,mlflow]")
    stopped = stop_run(config, tmp_path / "runs" / "run", step=2)
    (stopped.path / "mlflow_id").write_text("../../etc")
    with pytest.raises(ValueError, match="mlflow_id is damaged: it"):
        run_of(config, stopped.path, stopped.last_checkpoint)


def test_a_server_that_cannot_be_had_is_one_sentence_and_leaves_no_run(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "foo://bar")
    with pytest.raises(ValueError, match=r"^logger mlflow: .*foo://bar"):
        run_of(small(tmp_path, "logger=[tensorboard,csv,mlflow]"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_account_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")

    def refuse(**_: object) -> None:
        raise wandb.errors.UsageError("No API key configured.\nUse `wandb login` to log in.")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(ValueError, match=r"^logger WeightsAndBiases: No API key"):
        run_of(small(tmp_path, "logger=[csv,wandb]"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_callback_that_refuses_a_run_leaves_its_directory_free(tmp_path):
    with pytest.raises(ValueError, match=r"callbacks\.samples needs TensorBoard"):
        run_of(small(tmp_path, "callbacks=samples", "logger=csv"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
