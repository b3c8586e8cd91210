"""Images are classified from their patches, tested at several sides, evaluated and served as texts are."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageColumn
from PIL import Image
from torch.nn import functional

import poslab
from poslab.data.batch import IGNORE
from poslab.evaluation.opening import open_run, short_example
from poslab.evaluation.scores.measure import measure
from poslab.tasks.patch_classification import ClassesOfPatchesRecord
from poslab.training.checking import check
from tests.data.images.small import bars, write_fashion, write_images
from tests.evaluation.evaluated import evaluated, figures_of
from tests.training.runs import composed, opened, run_of

from .same_metrics import assert_measured_as_tested, assert_two_processes_come_to_the_metrics_of

TINY = (
    *("model.d_model=32", "model.num_layers=1", "model.num_heads=2", "dataset.batch_size=16"),
    *("trainer=cpu", "trainer.precision=32-true", "trainer.validations=2", "trainer.log_every=1"),
)


@pytest.fixture(scope="module")
def words_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """Words of a run on a small data set in the form of Fashion-MNIST."""
    folder = tmp_path_factory.mktemp("fashion")
    files = write_fashion(folder / "files")
    data = [f"dataset.path={files}", f"dataset.cache_dir={folder}/cache", "dataset.side=8", "dataset.sides=[4,16]"]
    return lambda *more: ["dataset=fashion_mnist", *data, *TINY, "trainer.max_steps=6", *more]


LEARNS = ("trainer.max_steps=60", "optimizer.lr=1e-2", "encoding=learned")


def test_a_run_learns_and_is_tested_at_every_side_for_which_it_has_positions(trained):
    run = trained(*LEARNS)
    metrics = run.metrics()
    assert metrics["test/accuracy@8"] > 90  # chance is 12.5
    tested = {tag.removeprefix("test/accuracy") for tag in metrics if tag.startswith("test/accuracy")}
    assert tested == {"", "@4", "@8"}
    assert metrics["test/accuracy"] == metrics["test/accuracy@8"]  # the training side stands for a test
    log = run.log_file.read_text()
    assert " at side (pixels)" in log
    assert re.search(r"^ +4 +0.5x +\d", log, re.M) and re.search(r"^ +16 +2x +– +–", log, re.M)


def test_the_loss_of_a_test_is_that_of_all_images_one_by_one(trained):
    run = trained()
    (data, task), model = opened(run.config()), poslab.load(run.path)
    for side in (4, 8, 16):
        items, loss = data.held_out("test", side), 0.0
        for number in range(40):
            with torch.no_grad():
                batch = items.__getitems__([number])
                logits = task.logits(model, batch)
            loss += functional.cross_entropy(logits, batch.classes).item()
        assert run.metrics()[f"test/loss@{side}"] == pytest.approx(loss / 40, rel=1e-5)


def test_items_are_measured_at_any_side_and_have_the_metrics_of_the_test(trained):
    run = trained()
    measured = assert_measured_as_tested(run)
    assert {side for _, side in measured.scores} == {4, 8, 16}
    assert measure(run.path, [32], "validation").scores["accuracy", 32].counts.tolist() == [1] * 20
    with pytest.raises(ValueError, match=r"^lengths must .*got 30$"):
        measure(run.path, [30])


def test_an_evaluation_shows_what_needs_no_text(trained):
    made = evaluated(trained("encoding=t5", "model.registers=1"))
    assert figures_of(made).keys() >= {
        "per_length",
        "attention_overview",
        "attention_by_distance",
        "attention_by_head",
        "learned_bias",
    }
    assert made.left_out.keys() == {"retrieval", "rotary"}
    assert {"accuracy@4", "accuracy@8", "accuracy@16"} <= made.metrics.keys()
    assert made.lead is not None and "8 (1x)" in made.lead.figures[0].frame


@pytest.mark.slow
@pytest.mark.parametrize("sides", [[4], [4, 8]])
def test_images_of_a_single_patch_are_evaluated_without_a_receptive_field(trained, sides):
    run = trained("encoding=rotary_axial", "dataset.side=4", f"dataset.sides={sides}")
    made = evaluated(run)
    assert "receptive_field@4" not in made.metrics and ("receptive_field@8" in made.metrics) == (8 in sides)


def test_a_text_is_refused_with_images(trained):
    with pytest.raises(ValueError, match=r"^text must .*got 'a ship'$"):
        short_example(open_run(trained().path), "a ship")


def test_a_image_is_served_by_its_path(trained, tmp_path):
    classify = poslab.serve(trained(*LEARNS).path)
    images, labels = bars(8, seed=1)
    names = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker")
    for side in (8, 32):  # one of another size is brought to that of training
        right = 0
        for image, label in zip(images, labels, strict=True):
            Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST).save(tmp_path / "one.png")
            answer = classify(str(tmp_path / "one.png"))
            right += answer.text == names[label] == next(iter(answer.probabilities))
        assert right >= 6  # of 8
    with pytest.raises(ValueError, match=r"^prompt must .*nowhere.png"):
        classify(str(tmp_path / "nowhere.png"))
    with pytest.raises(ValueError, match=r"^prompt must .*there/x.png"):
        classify("~nobody/there/x.png")


def test_a_decoder_reads_images_in_the_order_of_storage(trained):
    assert trained("model=decoder", "encoding=none").metrics()["test/loss"] > 0


def test_images_of_ones_own_of_any_shape_are_trained_on(tmp_path):
    folder = write_images(tmp_path / "p", [(8, 8), (24, 8), (9, 30)], count=30)
    words = ["dataset=images", f"dataset.path={folder}", f"dataset.cache_dir={tmp_path}/cache", "dataset.side=16"]
    more = ["dataset.sides=[32]", *TINY, "model.registers=1", "model.pooling=first", "trainer.max_steps=3"]
    metrics = run_of(composed(*words, *more), tmp_path / "run").metrics()
    assert {"test/accuracy@16", "test/accuracy@32"} <= metrics.keys()


@pytest.mark.slow
def test_a_class_token_reads_images_of_the_hub_under_the_biases_of_beit(tmp_path):
    images, labels = bars(200)
    features = Features({"image": ImageColumn(), "label": ClassLabel(num_classes=8)})
    columns = {"image": list(map(Image.fromarray, images)), "label": labels}
    Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "saved")
    data = ["dataset=hub_images", f"dataset.path={tmp_path}/saved", f"dataset.cache_dir={tmp_path}/cache"]
    token = ["encoding=beit", "model.registers=1", "model.pooling=first", "dataset.side=8", "dataset.sides=[16]"]
    run = run_of(composed(*data, *token, *TINY, "trainer.max_steps=60", "optimizer.lr=1e-2"), tmp_path / "run")
    assert run.metrics()["test/accuracy@8"] > 40  # chance is 12.5, and one layer does not tell the upper patches apart
    of_query, of_key, of_both = poslab.load(run.path).encodings.layer(0).without_position
    assert of_query.all() and of_both.all() and not of_key.any()  # the class token alone is read


def test_the_training_length_is_the_patches_of_a_image():
    config = composed("dataset=glyphs", "dataset.side=56", "dataset.patch=8", "dataset.sides=[]", "encoding=learned")
    assert config["dataset"]["sequence_length"] == config["encoding"]["max_length"] == 49


def test_an_experiment_has_a_small_form_for_images():
    assert composed("dataset=glyphs", "experiment=small")["model"]["d_model"] == 64


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=encoder_decoder"], r"^model must .*got encoder_decoder$"),
        (
            ["encoding=learned", "encoding.max_length=3"],
            r"^encoding.max_length=3 ends before",
        ),
        (
            ["encoding=learned", "model.registers=2"],
            r"=4 ends before.*be at least 6$",
        ),
        (["dataset.sides=[10]"], r"^dataset.sides must .*got 10$"),
        (["dataset.sequence_length=3"], r"^dataset.sequence_length must be"),
        (["model.registers=-1"], r"^model.registers must .*got -1$"),
    ],
)
def test_mistakes_are_one_sentence(words_of, words, message):
    with pytest.raises(ValueError, match=message):
        check(composed(*words_of(*words)))


def test_a_teacher_that_reads_fewer_patches_predicts_nothing_of_a_whole_image(trained):
    data, task = opened(trained().config())
    batch = data.held_out("test", 16).__getitems__([0, 1])
    assert task.first_tokens(batch, 16) is batch
    cut = task.first_tokens(batch, 7)
    assert cut.tokens.shape == (2, 7) and cut.classes.tolist() == [IGNORE] * 2
    assert task.logits(poslab.load(trained().path), cut).shape == (2, 8)


GOOD: dict[str, Any] = {"outputs": [2, True], "classes": ["a", "b"], "patch": [4, 4], "mean": [1.0], "deviation": [2.0]}


@pytest.mark.parametrize(
    "changes",
    [
        *(
            {"patch": [0, 4]},
            {"patch": [10**9, 1]},
            {"patch": []},
            {"patch": 4},
            {"mean": [1.0] * 2, "deviation": [1.0] * 2},
            {"mean": "x"},
            {"mean": []},
        ),
        *({"deviation": [0.0]}, {"deviation": [float("nan")]}, {"classes": ["a"]}, {"outputs": None}),
    ],
)
def test_a_damaged_record_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    file = tmp_path / "task.json"
    file.write_text(json.dumps(GOOD))
    assert ClassesOfPatchesRecord.read(file).patch_width == 16
    file.write_text(json.dumps(GOOD | changes))
    with pytest.raises(ValueError, match=r"task.json is damaged"):
        ClassesOfPatchesRecord.read(file)


def test_a_record_of_other_patches_than_those_of_the_checkpoint_is_refused(trained, tmp_path):
    path = shutil.copytree(trained().path, tmp_path / "run")
    record = json.loads((path / "task.json").read_text())
    (path / "task.json").write_text(json.dumps(record | {"patch": [500, 500]}))
    with pytest.raises(ValueError, match=r"^the checkpoint .* does not fit"):
        poslab.load(path)


@pytest.mark.slow
def test_two_processes_of_the_command_come_to_the_metrics_of_one(words_of, trained, tmp_path):
    registers = "model.registers=1"
    assert_two_processes_come_to_the_metrics_of(trained(registers), words_of(registers), tmp_path)
