"""Sounds are classified from patches of their spectrograms, tested at longer crops, evaluated and served."""

from collections.abc import Callable
from functools import partial

import pytest
import soundfile
import torch
from torch.nn import functional

import poslab
from poslab.data.patched.audio import BINS
from poslab.data.patched.sounds import MAX_FRAMES
from poslab.tasks.measurement import Outputs
from poslab.tasks.patch_classification import ClassesOfPatchesRecord
from poslab.training.checking import check
from tests.data.sounds.small import sweep, write_sounds
from tests.evaluation.evaluated import evaluated
from tests.training.runs import composed, opened, run_of

from .same_metrics import assert_measured_as_tested

TINY = (
    *("model.d_model=32", "model.num_layers=1", "model.num_heads=2", "dataset.batch_size=16", "trainer=cpu"),
    *("trainer.precision=32-true", "trainer.validations=2", "trainer.log_every=1", "trainer.max_steps=6"),
)
LEARNS = ("trainer.max_steps=30", "optimizer.lr=1e-2")


@pytest.fixture(scope="module")
def words_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """Words of a run on sounds of 18, 28 and 48 frames, with crops of 16."""
    folder = tmp_path_factory.mktemp("sounds")
    data = [f"dataset.path={write_sounds(folder / 's')}", f"dataset.cache_dir={folder}/cache", "dataset.seconds=0.16"]
    return lambda *more: ["dataset=sounds", *data, *TINY, *more]


def test_a_run_learns_and_is_tested_at_every_length_that_sounds_have(trained):
    run = trained(*LEARNS)
    metrics = run.metrics()
    assert metrics["test/accuracy@16"] > 90  # chance is 50
    tested = {tag.removeprefix("test/accuracy") for tag in metrics if tag.startswith("test/accuracy")}
    assert tested == {"", "@16", "@32"} and metrics["test/accuracy"] == metrics["test/accuracy@16"]
    log = run.log_file.read_text()
    assert "a crop in frames of 10 ms" in log and "that are long enough" in log


def test_items_have_the_metrics_of_the_test_and_its_loss_is_that_of_all_sounds_one_by_one(trained):
    run = trained(*LEARNS)
    assert_measured_as_tested(run)
    (data, task), model = opened(run.config()), poslab.load(run.path)
    items, loss = data.held_out("test", 32), 0.0
    for number in range(len(items.num_tokens)):
        with torch.no_grad():
            batch = items.__getitems__([number])
            loss += functional.cross_entropy(task.logits(model, batch), batch.classes).item()
    assert run.metrics()["test/loss@32"] == pytest.approx(loss / len(items.num_tokens), rel=1e-5)


def test_an_evaluation_shows_what_needs_no_text(trained):
    made = evaluated(trained(*LEARNS))
    assert {"accuracy@16", "accuracy@32"} <= made.metrics.keys()
    assert made.lead is not None and "16 (1x)" in made.lead.figures[0].frame


def test_a_sound_is_served_by_its_path(trained, tmp_path):
    classify = poslab.serve(trained(*LEARNS).path)
    for label in ("falling", "rising"):
        soundfile.write(tmp_path / "one.flac", sweep(0.7, label == "rising", 44_100), 44_100)
        assert classify(str(tmp_path / "one.flac")).text == label
    soundfile.write(tmp_path / "short.wav", sweep(0.1, True), 16_000)
    with pytest.raises(ValueError, match=r"^prompt must .*got .*short.wav'$"):
        classify(str(tmp_path / "short.wav"))
    with pytest.raises(ValueError, match=r"^prompt must .*nowhere.wav"):
        classify(str(tmp_path / "nowhere.wav"))
    with pytest.raises(ValueError, match=r"^prompt must .*there/x.wav"):
        classify("~nobody/there/x.wav")


@pytest.mark.parametrize(
    "encoding",
    [
        *("rotary", "learned", "t5", "rotary_axial", "learned_grid", "sinusoidal_grid"),
        *("rotary_axial dataset.patch=[16,8]", "learned_axes dataset.patch=[16,8]", "none model=decoder"),
    ],
)
def test_encodings_of_one_axis_and_of_two_read_sounds(words_of, encoding, tmp_path):
    words = words_of(f"encoding={encoding.split()[0]}", *encoding.split()[1:], "trainer.max_steps=2")
    assert {"test/accuracy@16"} <= run_of(composed(*words), tmp_path / "run").metrics().keys()


@pytest.mark.parametrize("encoding", ["learned_grid", "learned_axes"])
@pytest.mark.parametrize(("interpolation", "reaches"), [("bilinear", True), ("none", False)])
def test_learned_vectors_of_one_axis_are_resampled_for_longer_sounds(trained, encoding, interpolation, reaches):
    run = trained(f"encoding={encoding}", f"encoding.interpolation={interpolation}", "trainer.max_steps=2")
    assert ("test/accuracy@32" in run.metrics()) == reaches
    assert poslab.load(run.path).max_length == (None if reaches else 4)


def test_hyperparameters_follow_the_patches_of_a_crop():
    item = composed("dataset=sounds", "dataset.path=x", "encoding=learned_grid", "dataset.patch=[16,8]")
    assert item["dataset"]["sequence_length"] == 75 and item["encoding"]["grid"] == [5, 15]
    other = composed("dataset=sounds", "dataset.path=x", "encoding=learned", "experiment=small")
    assert other["encoding"]["max_length"] == 30 and other["model"]["d_model"] == 64


def test_a_run_keeps_what_it_learned_of_the_longest_patches_that_a_source_allows():
    outputs = Outputs(2, pooled=True)
    record = partial(ClassesOfPatchesRecord, outputs=outputs, classes=["a", "b"], mean=[0.0], deviation=[1.0])
    assert record(patch=[BINS, MAX_FRAMES]).patch_width == BINS * MAX_FRAMES
    with pytest.raises(ValueError, match=r"^patch must be "):
        record(patch=[BINS, MAX_FRAMES + 1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=encoder_decoder"], r"^model must .*got encoder_decoder$"),
        (["dataset.seconds=0.17"], r"^dataset.seconds must be a multiple"),
        (["dataset.patch=[16,8,1]"], r"^dataset.patch must .*got \[16, 8, 1\]$"),
        (["dataset.patch=soon"], r"^dataset.patch must be "),
        (
            ["dataset.sequence_length=3"],
            r"^dataset.sequence_length must be",
        ),
        (["dataset.path=/nowhere"], r"^dataset.path must .*got '/nowhere'"),
    ],
)
def test_mistakes_are_one_sentence(words_of, words, message):
    with pytest.raises(ValueError, match=message):
        check(composed(*words_of(*words)))
