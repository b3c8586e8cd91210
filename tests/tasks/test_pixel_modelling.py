"""Images are learned pixel by pixel, by a decoder that knows the place of each on a grid."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import poslab
from poslab.data.batch import IGNORE
from poslab.data.patched.images import Pixels
from poslab.models import Decoder
from poslab.tasks.pixel_modelling import PixelBatch, PixelModelling
from poslab.training.checking import check
from tests.data.images.small import write_fashion
from tests.encoding_choices import small_model
from tests.evaluation.evaluated import evaluated, figures_of
from tests.training.runs import composed, opened

from .same_metrics import assert_measured_as_tested

SOURCE = Pixels(path="x", side=4, sides=[], sequence_length=16, levels=16)


def batch_of(rows: int, columns: int, counts: bool = True) -> PixelBatch:
    shape = (2, rows, columns, 1)
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    return PixelModelling(SOURCE).collate({"array": list(images)}, np.array([True, counts]))


@pytest.mark.parametrize("levels", [2, 3, 16, 256])
def test_levels_are_evenly_spaced(levels):
    result = Pixels(path="x", side=4, sides=[], sequence_length=16, levels=levels).levels_of(
        np.arange(256).astype(np.uint8)
    )
    counts = np.bincount(result)
    assert len(counts) == levels and counts.max() - counts.min() <= 1 and (np.diff(result) >= 0).all()


def test_each_pixel_is_predicted_from_those_before_it_at_their_places():
    batch = batch_of(3, 5, counts=False)
    assert batch.tokens.shape == (2, 14) and batch.targets[0, :-1].equal(batch.tokens[0, 1:])
    assert (batch.targets[1] == IGNORE).all()
    positions = batch.positions.places
    assert positions is not None and positions.sizes[0].tolist() == [3, 5]
    assert positions.cells.tolist() == [[y, x] for y in range(3) for x in range(5)][:14]


@pytest.mark.parametrize("name", ["rotary", "rotary_axial", "learned_grid", "t5_axes", "alibi_grid", "none"])
def test_drawing_pixel_by_pixel_is_a_full_pass(name: str) -> None:
    """The cache goes on with the next cell of the grid by itself."""
    batch: Any = batch_of(3, 5)
    model = small_model(Decoder, name, grid=(3, 5), head_dim=16)
    prompt = PixelBatch(batch.tokens[:, :7], batch.targets[:, :7], 3, 5)
    with torch.no_grad():
        expected, store = PixelModelling(SOURCE).logits(model, batch), model.new_cache()
        parts = [model(prompt.tokens, prompt.positions, cache=store)]
        parts += [model(batch.tokens[:, n : n + 1], cache=store) for n in range(7, 14)]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def words_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """Words of a run on a small data set in the form of Fashion-MNIST."""
    folder = tmp_path_factory.mktemp("pixels")
    files = write_fashion(folder / "files")
    data = [f"dataset.path={files}", f"dataset.cache_dir={folder}/cache", "dataset.side=8", "dataset.sides=[4]"]
    model = ["model.d_model=32", "model.num_layers=1", "model.num_heads=2", "encoding=rotary_axial"]
    trainer = ["trainer=cpu", "trainer.precision=32-true", "trainer.validations=1", "trainer.max_steps=3"]
    return lambda *more: ["dataset=pixels", *data, *model, *trainer, *more]


def test_a_row_of_bright_pixels_is_learned(trained):
    """Noise below the bright row has 4 levels (60 of 256), so its pixels cost 2 bits; a model of counts alone, more."""
    metrics = trained("trainer.max_steps=80", "optimizer.lr=1e-2").metrics()
    assert metrics["test/bits_per_pixel@8"] < 2.3
    assert metrics["test/bits_per_pixel"] == metrics["test/loss"] / math.log(2)


def test_bits_per_pixel_are_those_of_all_images_one_by_one(trained):
    run = trained()
    (data, _), model = opened(run.config()), poslab.load(run.path)
    for side in (4, 8):
        items, loss = data.held_out("test", side), 0.0
        for number in range(40):
            pixels = torch.from_numpy(items.stored[number].astype(np.int64).ravel() // 16)
            with torch.no_grad():
                batch = items.__getitems__([number])
                logits = model(pixels[:-1].unsqueeze(0), batch.positions)[0]
            loss += functional.cross_entropy(logits, pixels[1:]).item()
        assert run.metrics()[f"test/bits_per_pixel@{side}"] == pytest.approx(loss / 40 / math.log(2), rel=1e-5)
    assert data.vocab_size == 18  # and two tokens that no image has
    assert ("bits_per_pixel", 4) in assert_measured_as_tested(run).scores


def test_a_run_is_evaluated_and_answers_nothing(trained):
    made = evaluated(trained())
    assert figures_of(made).keys() >= {"per_length", "attention_overview", "attention_by_offset", "attention_by_head"}
    assert {"bits_per_pixel@4", "bits_per_pixel@8"} <= made.metrics.keys()
    with pytest.raises(ValueError, match=r"cannot answer:.*and answers nothing$"):
        poslab.serve(trained().path)


def test_a_teacher_that_reads_fewer_pixels_predicts_those():
    task, batch = PixelModelling(SOURCE), batch_of(3, 5)
    assert task.first_tokens(batch, 14) is batch
    cut = task.first_tokens(batch, 6)
    assert cut.tokens.shape == cut.targets.shape == (2, 6)
    model = small_model(Decoder, "rotary_axial", head_dim=16)
    with torch.no_grad():
        torch.testing.assert_close(task.logits(model, cut), task.logits(model, batch)[:, :6], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=encoder"], r"^model must .*got encoder$"),
        (["dataset.levels=1"], r"^dataset.levels must .*got 1$"),
        (["dataset.patch=2"], r"^dataset.patch must .*got 2$"),
    ],
)
def test_mistakes_are_one_sentence(words_of, words, message):
    with pytest.raises(ValueError, match=message):
        check(composed(*words_of(*words)))


def test_an_experiment_has_a_small_form_for_pixels():
    config = composed("dataset=pixels", "experiment=small", "encoding=learned")
    assert config["dataset"]["test_examples"] == 500 and config["encoding"]["max_length"] == 196
