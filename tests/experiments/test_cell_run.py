"""The test of a finished run is measured once, kept length by length, and measured anew when the run has changed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import poslab.experiments.cell_run as cell_run
from poslab.evaluation.scores.extra_metrics import measure_extra
from poslab.evaluation.scores.items import VERSION, read_measured, write_measured
from poslab.evaluation.scores.measure import measure
from poslab.experiments.cell_run import measured, train_cell
from poslab.experiments.cells import Cell
from poslab.experiments.jobs import Job
from poslab.runs.checkpoint import load_checkpoint, save_atomically
from poslab.runs.directory import RunDirectory
from poslab.runs.errors import RunInterruptedError
from tests.training.runs import composed, run_of, small

ADDITION = (
    *("dataset=addition", "dataset.train_lengths=[1,2]", "dataset.test_lengths=[2,3]", "dataset.test_examples=16"),
    *("dataset.batch_size=8", "trainer=cpu", "trainer.max_steps=2", "trainer.precision=32-true"),
    *("model.d_model=16", "model.num_layers=1", "model.num_heads=2"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run, trained once."""
    return run_of(composed(*ADDITION), tmp_path_factory.mktemp("run") / "run")


@pytest.fixture
def run(trained: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy of it for each test."""
    return RunDirectory(Path(shutil.copytree(trained.path, tmp_path / "run")))


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> list[list[int | None]]:
    """The lengths of each measurement that is made."""
    lengths: list[list[int | None]] = []

    def noting(run, asked, *arguments, **keywords):
        lengths.append(list(asked))
        return measure(run, asked, *arguments, **keywords)

    monkeypatch.setattr(cell_run, "measure", noting)
    return lengths


def cell(*lengths: int) -> Cell:
    return Cell("addition", "rotary", 1, {}, False, "", lengths)


def file_of(run: RunDirectory) -> Path:
    return run.path / "scores.parquet"


def train_further(run: RunDirectory) -> None:
    """Replaces the best checkpoint by another one."""
    checkpoint = load_checkpoint(run.best_checkpoint)
    checkpoint["state_dict"]["model.norm.weight"] *= 2
    save_atomically(checkpoint, run.best_checkpoint)


def test_only_lengths_that_are_missing_are_measured(run, measurements):
    first = measured(run, cell(2, 3))
    assert {"exact_match@2", "exact_match@3", "exact_match"} <= first.keys()
    assert measured(run, cell(2, 3)) == first
    more = measured(run, cell(2, 3, 4))
    assert measurements == [[2, 3, None], [4]]
    assert {tag: more[tag] for tag in first} == first and "exact_match@4" in more


def test_a_run_that_was_trained_further_is_measured_anew(run, measurements):
    before = measured(run, cell(2, 3))
    train_further(run)
    after = measured(run, cell(2))
    assert measurements == [[2, 3, None], [2, None]]
    assert after["loss@2"] != before["loss@2"] and "loss@3" not in after
    assert after["loss@2"] == pytest.approx(measure(run.path, [2]).scores["loss", 2].value)


def damaged(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-30])


def of_another_split(file: Path) -> None:
    run = file.parent
    write_measured(measure(run, split="validation"), file)


def of_an_earlier_version(file: Path) -> None:
    table = pq.read_table(file)
    facts = table.schema.metadata[b"poslab"].replace(f'"version": {VERSION}'.encode(), b'"version": 1')
    pq.write_table(table.replace_schema_metadata({"poslab": facts}), file)


def with_code(file: Path) -> None:
    with file.open("wb") as opened:
        np.savez(opened, header=np.array([print], object))


@pytest.mark.parametrize("change", [damaged, of_another_split, of_an_earlier_version, with_code])
def test_a_file_that_is_not_of_this_test_is_not_trusted(run, measurements, change):
    expected = measured(run, cell(2, 3))
    change(file_of(run))
    assert measured(run, cell(2, 3)) == expected
    assert measurements == [[2, 3, None]] * 2
    assert read_measured(file_of(run)).split == "test"


def test_an_interrupted_measurement_goes_on_with_the_next_length(run, measurements):
    batches = []

    def stop_at_the_second_length() -> None:
        if file_of(run).exists():
            raise RunInterruptedError(15)
        batches.append("of the first length")

    with pytest.raises(RunInterruptedError):
        measured(run, cell(2, 3), stop_at_the_second_length)
    assert batches
    found = measured(run, cell(2, 3))
    assert measurements == [[2, 3, None], [3, None]]
    file_of(run).unlink()
    assert found == pytest.approx(measured(run, cell(2, 3)))


def test_the_whole_follows_from_lengths_that_are_kept_without_the_model(run):
    measured(run, cell(2, 3))
    known = read_measured(file_of(run))
    expected = {metric: one for (metric, length), one in known.scores.items() if length is None}
    parts = type(known)(
        known.encoding, "test", {key: one for key, one in known.scores.items() if key[1] is not None}, {}, ""
    )

    def fail() -> None:
        raise AssertionError("a batch is read")

    found = measure(run.path, [None], known=parts, check_cancelled=fail)
    assert expected.keys() == {"loss", "accuracy", "exact_match"}
    for metric, one in expected.items():
        whole = found.scores[metric, None]
        assert whole.identity == one.identity
        np.testing.assert_array_equal(whole.sums, one.sums)
        np.testing.assert_array_equal(whole.counts, one.counts)
    assert dict(found.values) == pytest.approx(dict(known.values)) and known.values


def test_two_commands_with_different_lengths_lose_nothing(run):
    def other_command() -> None:
        if not file_of(run).exists():
            measured(run, cell(4))

    measured(run, cell(2), other_command)
    assert read_measured(file_of(run)).lengths == {2, 4, None}


@pytest.mark.parametrize(("accelerator", "device"), [("cpu", "cpu"), ("auto", "auto"), ("gpu", "auto")])
def test_a_run_is_measured_on_the_kind_of_device_that_trains_it(run, monkeypatch, accelerator, device):
    text = run.config_file.read_text()
    run.config_file.write_text(text.replace("accelerator: cpu", f"accelerator: {accelerator}"))
    devices = []

    def noting(run, lengths, split, device, *arguments, **keywords):
        devices.append(device)
        return measure(run, lengths, split, "cpu", *arguments, **keywords)

    monkeypatch.setattr(cell_run, "measure", noting)
    measured(run, cell(2))
    assert devices == [device]


def test_a_directory_that_cannot_be_written_is_one_sentence(run):
    file_of(run).mkdir()
    with pytest.raises(ValueError, match=r"run cannot.*written.*Is a directory$"):
        measured(run, cell(2))


def test_a_run_without_its_checkpoint_is_one_sentence(run):
    run.best_checkpoint.unlink()
    with pytest.raises(ValueError, match=r"^there.*best\.safetensors.*last\.safetensors$"):
        measured(run, cell(2))


class OneJob:
    """Jobs, their plan, their comparison and the configurations of a finished run, for its worker."""

    trust = ()
    plan = comparison = property(lambda self: self)

    def __init__(self, run: RunDirectory) -> None:
        self.run = run

    def of(self, cell):
        return self.run.config()


def test_a_worker_that_measures_stops_after_a_signal(run):
    def check_cancelled() -> None:
        if file_of(run).exists():
            raise RunInterruptedError(15)

    job = OneJob(run)
    with pytest.raises(RunInterruptedError):
        train_cell(job, job, Job(cell(2, 3).identity, "worker", run.path), check_cancelled)
    assert read_measured(file_of(run)).lengths == {2}


def test_a_run_that_others_begin_with_is_trained_again_where_it_is_not(run):
    begun_with = cell(2)
    earlier = run.path.parent / begun_with.directory

    class OneJobAfter(OneJob):
        output = run.path.parent
        cell_in = staticmethod(lambda directory: {begun_with.directory.as_posix(): begun_with}[directory])

    job, after = OneJobAfter(run), replace(cell(2), after=begun_with.directory.as_posix())
    for _ in range(2):  # the second time it is there
        train_cell(job, job, Job(after.identity, "worker", run.path), lambda: None)
        metrics = RunDirectory(earlier).metrics()
        assert metrics["validation/loss"] == run.metrics()["validation/loss"]


def test_a_gpu_gives_the_scores_of_the_cpu(run):
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    one, other = (measure(run.path, [2], device=device).scores["loss", 2].value for device in ("cpu", "auto"))
    assert one == pytest.approx(other, rel=1e-4)


def test_metrics_beside_those_of_the_task_are_kept_in_a_file_of_their_own(tmp_path, monkeypatch):
    run, wanted = run_of(small(tmp_path), tmp_path / "run"), []

    def noting(path, asked, *arguments):
        wanted.append(list(asked))
        return measure_extra(path, asked, *arguments)

    monkeypatch.setattr(cell_run, "measure_extra", noting)

    def of(*extra: str) -> Cell:
        return Cell("text", "rotary", 1, {}, False, "", (16,), extra)

    first = measured(run, of("passkey_loss@150"))
    assert {"bits_per_byte@16", "passkey_loss@150", "passkey_accuracy@150"} <= first.keys()
    assert measured(run, of("passkey_loss@150")) == first
    more = measured(run, of("passkey_accuracy@150", "passkey_loss@160"))
    assert wanted == [[("passkey_loss", 150)], [("passkey_loss", 160)]]
    assert {tag: more[tag] for tag in first} == first and "passkey_loss@160" in more
    assert read_measured(run.path / "extra_scores.parquet").lengths == {150, 160}
    assert read_measured(file_of(run)).lengths == {16}
