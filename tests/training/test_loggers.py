"""TensorBoard and metrics.csv hold every metric of a run, also of one that was interrupted."""

import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.summary.writer import event_file_writer

from poslab.runs.directory import RunDirectory
from poslab.training.loggers import RunTensorBoard, flat
from tests.training.runs import recorded, run_of, small, stop_run

EVERYTHING = {"scalars": 0, "tensors": 0}
TIMED = {"train/tokens_per_second", "train/mfu", "memory/peak_mb"}


def events_of(directory: Path) -> EventAccumulator:
    """The events that TensorBoard reads in a directory."""
    return EventAccumulator(str(directory), size_guidance=EVERYTHING).Reload()


def curve(events: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


def hyperparameters(events: EventAccumulator, tag: str) -> HParamsPluginData:
    return HParamsPluginData.FromString(events.SummaryMetadata(tag).plugin_data.content)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("finished")
    config = small(folder, "encoding=alibi", "encoding.max_exponent=6", "optimizer.encoding_lr_multiplier=3")
    return run_of(config, folder / "outputs" / "alibi")


def test_every_figure_of_a_run_is_a_curve_in_tensorboard(finished):
    tags = set(events_of(finished.path).Tags()["scalars"])
    evaluated = {"loss", "bits_per_byte", "perplexity", "accuracy"}
    training = evaluated | {"learning_rate", "gradient_norm", "tokens_per_second", "mfu"}
    assert {f"train/{name}" for name in training} <= tags
    assert {f"{split}/{name}" for split in ("validation", "test") for name in evaluated} <= tags
    assert {f"{split}/loss@{length}" for split in ("validation", "test") for length in (16, 32)} <= tags
    assert "memory/peak_mb" in tags


def test_curves_have_the_metrics_of_each_step(finished):
    events = events_of(finished.path)
    assert [step for step, _ in curve(events, "train/loss")] == [1, 2, 3, 4]
    assert [step for step, _ in curve(events, "validation/loss")] == [2, 4]
    assert [step for step, _ in curve(events, "memory/peak_mb")] == [2, 4]
    assert [step for step, _ in curve(events, "test/loss")] == [4]
    # No warm-up in four steps: a cosine from 3e-3 to 0.02 of that, halfway after two steps.
    assert curve(events, "train/learning_rate")[0] == (1, pytest.approx(3e-3))
    assert curve(events, "train/learning_rate")[2] == (3, pytest.approx(3e-3 * 1.02 / 2))


def test_metrics_csv_has_what_tensorboard_has(finished):
    events = events_of(finished.path)
    for tag in set(events.Tags()["scalars"]):
        if not tag.startswith("by_length/"):
            expected = [(step, pytest.approx(value)) for step, name, value in recorded(finished) if name == tag]
            assert curve(events, tag) == expected, tag


def test_the_loss_at_each_length_is_a_curve_over_length(finished):
    events, metrics = events_of(finished.path), finished.metrics()
    for name in ("loss", "bits_per_byte", "perplexity", "accuracy"):
        expected = [(length, pytest.approx(metrics[f"test/{name}@{length}"])) for length in (16, 32)]
        assert curve(events, f"by_length/test/{name}") == expected


def test_the_hparams_tab_has_the_choices_beside_the_final_test_metrics(finished):
    events = events_of(finished.path)
    choices = hyperparameters(events, "_hparams_/session_start_info").session_start_info.hparams
    assert choices["encoding"].string_value == "alibi"
    assert choices["encoding.max_exponent"].number_value == 6
    assert choices["model.d_model"].number_value == 16
    assert choices["optimizer.encoding_lr_multiplier"].number_value == 3
    assert choices["dataset"].string_value == "text"
    assert choices["seed"].number_value == 1
    assert "_hparams_/experiment" not in events.Tags()["tensors"]
    names = ("test/loss", "test/perplexity", "test/bits_per_byte@16", "test/bits_per_byte@32")
    for name in names:  # the tab shows the last value of these curves
        assert curve(events, name)[-1][1] == pytest.approx(finished.metrics()[name])


def test_a_choice_may_have_numbers_as_keys_and_null_is_no_value():
    assert dict(flat({"schedule": {0: 2, 4: 1}, "scale": None})) == {"schedule.0": 2, "schedule.4": 1}


def test_the_configuration_is_there_as_text(finished):
    (event,) = events_of(finished.path).Tensors("config/text_summary")
    text = event.tensor_proto.string_val[0].decode()
    assert OmegaConf.create(text.removeprefix("```yaml\n").removesuffix("```")) == finished.config()


def test_a_run_is_named_after_its_directory(finished):
    outputs = finished.path.parent
    assert {file.parent for file in outputs.rglob("events.out.tfevents.*")} == {outputs / "alibi"}


def test_metrics_are_on_the_disk_as_soon_as_they_are_recorded(tmp_path):
    logger = RunTensorBoard(tmp_path / "run", first_step=0)
    for step in (1, 2):
        logger.log_metrics({"train/loss": step / 2}, step)
        assert curve(events_of(tmp_path / "run"), "train/loss")[-1] == (step, step / 2)
    logger.finish({})


@pytest.mark.slow
def test_a_run_that_was_killed_and_resumed_has_each_step_once_and_none_that_was_lost(tmp_path):
    config = small(tmp_path, "trainer.max_steps=12", "trainer.validations=4")
    directory = tmp_path / "run"
    run = stop_run(config, directory, step=3)  # and ends after step 4
    earlier = shutil.copy(run.last_checkpoint, tmp_path / "earlier.safetensors")
    stop_run(config, directory, step=7, checkpoint=run.last_checkpoint)
    assert max(step for step, tag, _ in recorded(run) if tag == "train/loss") == 8
    # As if it had been killed before it could save what comes after step 4.
    shutil.copy(earlier, run.last_checkpoint)
    run_of(config, directory, checkpoint=run.last_checkpoint)
    alone = run_of(config, tmp_path / "alone")

    def steady(of: RunDirectory) -> list[tuple[int, str, float]]:
        return [line for line in recorded(of) if line[1] not in TIMED]

    assert steady(run) == steady(alone)
    assert max(Counter((step, tag) for step, tag, _ in recorded(run)).values()) == 1
    events, expected = events_of(run.path), events_of(alone.path)
    assert events.Tags()["scalars"] == expected.Tags()["scalars"]
    for tag in expected.Tags()["scalars"]:
        if tag in TIMED:
            assert [step for step, _ in curve(events, tag)] == [step for step, _ in curve(expected, tag)], tag
        else:
            assert curve(events, tag) == curve(expected, tag), tag
    assert len(events.Tensors("config/text_summary")) == 1


def test_a_run_that_was_killed_before_its_first_checkpoint_has_each_step_once(tmp_path):
    for _ in range(2):  # the second as if it began anew in the same directory
        logger = RunTensorBoard(tmp_path / "run", first_step=0)
        for step in (1, 2, 3):
            logger.log_metrics({"train/loss": 0.5}, step)
        logger.finish({})
    assert [step for step, _ in curve(events_of(tmp_path / "run"), "train/loss")] == [1, 2, 3]


def test_what_a_run_records_is_read_in_order_though_it_was_resumed_within_a_second(tmp_path, monkeypatch):
    numbers = iter((9, 10))  # of the files of a process, which come in the order of the alphabet
    monkeypatch.setattr(event_file_writer, "_global_uid", SimpleNamespace(get=lambda: next(numbers)))
    for step in (1, 2):
        logger = RunTensorBoard(tmp_path / "run", first_step=step - 1)
        logger.log_metrics({"train/loss": step / 2}, step)
        logger.finish({})
    assert curve(events_of(tmp_path / "run"), "train/loss") == [(1, 0.5), (2, 1.0)]


def test_a_run_resumes_into_a_validation_before_any_training_figure_is_due(tmp_path):
    rhythm = ["trainer.max_steps=8", "trainer.validations=2", "trainer.saves=8", "trainer.log_every=100"]
    config = small(tmp_path, *rhythm)
    run = stop_run(config, tmp_path / "run", step=1)  # and ends after step 2
    run_of(config, run.path, checkpoint=run.last_checkpoint)
    lines = [line.split() for line in run.log_file.read_text().splitlines()]
    validated = {int(line[0]): float(line[1]) for line in lines if line and line[0] in ("4", "8")}
    losses = {step: value for step, tag, value in recorded(run) if tag == "train/bits_per_byte"}
    assert validated == {step: pytest.approx(losses[step], abs=1e-4) for step in (4, 8)}
