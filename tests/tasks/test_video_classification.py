"""Videos are classified from patches in time, height and width, and only the order of frames tells their classes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import poslab
from poslab.encodings import Positions
from poslab.encodings.tokens import PATCH
from poslab.models import Encoder, Outputs
from poslab.tasks.patch_classification import VideoClassification
from poslab.training.checking import check
from tests.encoding_choices import small_model
from tests.evaluation.evaluated import evaluated
from tests.training.runs import composed

from .same_metrics import assert_measured_as_tested

TINY = (
    *("model.d_model=48", "model.num_layers=1", "model.num_heads=2", "dataset.batch_size=16", "trainer=cpu"),
    *("trainer.precision=32-true", "trainer.validations=2", "trainer.log_every=1", "trainer.max_steps=4"),
)

OF_VIDEOS = (
    *("rotary", "rotary_axial", "sinusoidal_grid", "learned_axes", "learned_grid", "fourier_features", "t5"),
    *("mrope", "mrope_interleaved", "videorope", "relative_table"),
)


class Source:
    """The part of a source of videos that their task reads."""

    patch_sizes, axes = (2, 2, 2), ("time", "height", "width")

    @staticmethod
    def cells_of(sizes: np.ndarray) -> np.ndarray:
        return sizes // 2


TASK: Any = VideoClassification(["a", "b"], Source(), [120.0], [60.0])


def batch_of(*videos: np.ndarray) -> Any:
    return TASK.collate({"array": videos, "label": ["b"] * len(videos)}, np.full(len(videos), True))


def video(frames: int = 8, height: int = 6, width: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def words_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """Words of a run on a video of each glyph, 4 x 2 x 3 patches in training."""
    files = ["dataset.variants=1", f"dataset.cache_dir={tmp_path_factory.mktemp('cache')}"]
    sizes = ["dataset.canvas=12", "dataset.side=8", "dataset.frames=4", "dataset.test_frames=[2,8]"]
    patch = ["dataset.patch=[1,6,4]", "dataset.test_examples=20"]
    return lambda *more: ["dataset=moving_glyphs", *files, *sizes, *patch, *TINY, *more]


def test_a_run_is_tested_at_every_number_of_frames_on_the_same_videos(trained):
    run = trained("encoding=rotary_axial")
    metrics = run.metrics()
    assert {"test/accuracy@2", "test/accuracy@4", "test/accuracy@8"} <= metrics.keys()
    assert metrics["test/accuracy"] == metrics["test/accuracy@4"]
    assert " at length (frames)" in run.log_file.read_text()
    assert {len(scores.sums) for scores in assert_measured_as_tested(run).scores.values()} == {20}


@pytest.mark.slow
def test_an_evaluation_shows_what_needs_no_text(trained):
    made = evaluated(trained("encoding=rotary_axial"))
    assert {"accuracy@2", "accuracy@4", "accuracy@8"} <= made.metrics.keys()
    assert made.lead is not None


def test_no_file_of_a_video_is_served(trained):
    with pytest.raises(ValueError, match=r"^prompt must be a text, an"):
        poslab.serve(trained("encoding=rotary_axial").path)("film.mp4")


def test_positions_are_the_places_of_a_triple_loop():
    batch = batch_of(video(), video())
    assert batch.grid == {"time": 4, "height": 3, "width": 2} and batch.real is None and batch.sizes is None
    assert (batch.tokens == PATCH).all() and batch.patches.shape == (2, 24, 8)
    located = batch.positions.places
    assert located is not None and located.axes == ("time", "height", "width") and located.largest == (4, 3, 2)
    assert located.cells.tolist() == [[t, y, x] for t in range(4) for y in range(3) for x in range(2)]


@pytest.mark.parametrize("name", OF_VIDEOS)
def test_an_encoding_tells_a_video_from_the_same_backwards(name):
    """Which no model without positions does, as the patches are the same. Each frame here fills a patch in time."""
    model = small_model(
        Encoder, name, grid=(4, 3, 2), outputs=Outputs(2, pooled=True), patch_width=8, d_model=48, head_dim=24
    )
    with torch.no_grad():
        forward = TASK.logits(model, batch_of(np.repeat(video(4), 2, 0)))
        backward = TASK.logits(model, batch_of(np.repeat(video(4), 2, 0)[::-1]))
    assert forward.isfinite().all() and (forward - backward).abs().max() > 1e-5


@pytest.mark.parametrize("name", ["none", "alibi_grid"])
def test_a_model_without_positions_or_signs_of_distances_does_not(name):
    model = small_model(Encoder, name, outputs=Outputs(2, pooled=True), patch_width=8)
    with torch.no_grad():
        forward, backward = (TASK.logits(model, batch_of(np.repeat(video(4), 2, 0)[::step])) for step in (1, -1))
    torch.testing.assert_close(forward, backward, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["rotary_axial", "sinusoidal_grid", "learned_axes", "alibi_grid"])
def test_encodings_of_three_axes_read_places_not_storage(name):
    """Patches in another order, with their places, have the same prediction."""
    model = small_model(
        Encoder, name, grid=(4, 3, 2), outputs=Outputs(2, pooled=True), patch_width=8, d_model=48, head_dim=24
    )
    batch, order = batch_of(video()), torch.randperm(24, generator=torch.Generator().manual_seed(0))
    positions = batch.positions
    shuffled = Positions(positions.ids, positions.stop, places=positions.places.take(order))
    with torch.no_grad():
        expected = model(batch.tokens, positions, patches=batch.patches)
        result = model(batch.tokens, shuffled, patches=batch.patches[:, order])
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_hyperparameters_follow_the_patches_of_a_video():
    config = composed("dataset=moving_glyphs", "encoding=learned_axes", "experiment=small")
    assert config["dataset"]["sequence_length"] == 288 and config["encoding"]["grid"] == [8, 6, 6]
    assert config["model"]["d_model"] == 72


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=encoder_decoder"], r"^model must .*got encoder_decoder$"),
        (["encoding=rotary_mixed"], r"^encoding.axes must .*got 2$"),
        (["dataset.patch=[6,4]"], r"^dataset.patch must .*got \[6, 4\]$"),
        (["dataset.grid=[2,3]"], r"^dataset.grid must .*got \[2, 3\]$"),
    ],
)
def test_mistakes_are_one_sentence(words_of, words, message):
    with pytest.raises(ValueError, match=message):
        check(composed(*words_of(*words)))
