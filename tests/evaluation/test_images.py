"""Runs on pictures are evaluated on their axes, whatever their encoding."""

from collections.abc import Callable
from functools import cache

import pytest

from poslab.runs.directory import RunDirectory
from tests.data.images.small import write_fashion
from tests.evaluation.evaluated import evaluated, figures_of
from tests.report.phone import smallest_label
from tests.training.runs import composed, run_of

TINY = (
    *("model.d_model=32", "model.num_layers=1", "model.num_heads=2", "dataset.batch_size=16", "trainer.max_steps=2"),
    *("dataset.side=12", "dataset.sides=[24]", "trainer=cpu", "trainer.precision=32-true", "trainer.validations=1"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunDirectory]:
    """Trains a run on a small data set in the form of Fashion-MNIST, once for all tests that read it."""
    folder = tmp_path_factory.mktemp("fashion")
    data = [f"dataset.path={write_fashion(folder / 'files')}", f"dataset.cache_dir={folder}/cache"]

    @cache
    def trained(*overrides: str) -> RunDirectory:
        words = ["dataset=fashion_mnist", *data, *TINY, *overrides]
        return run_of(composed(*words), tmp_path_factory.mktemp("run") / "run")

    return trained


def test_the_report_of_a_rotation_shows_its_axes(trained):
    made = evaluated(trained("encoding=rotary_axial", "model.registers=1"))
    figures = figures_of(made)
    assert figures.keys() >= {"attention_by_offset", "effective_field", "effective_field_distance", "rotary_axes"}
    assert figures.keys() >= {"attention_overview", "per_length"}
    assert not figures.keys() & {"attention_by_distance", "rotary_turns", "rotary_base_bound"}
    assert list(figures["overview"].frame.columns)[-3:] == ["12 (1x)", "24 (2x)", "within 5% up to"]
    assert {"cells_away", "without_position"} <= set(figures["attention_by_head"].frame.columns)
    assert {"receptive_field@12", "receptive_field@24"} <= made.metrics.keys()
    assert smallest_label(figures["metrics_by_length"]) >= 8
    of_files = {name: list(frame.columns) for name, frame in made.frames.items()}
    assert of_files["attention_by_offset"] == ["model", "layer", "head", "height", "width", "attention", "queries"]
    assert of_files["effective_field"] == ["model", "length", "height", "width", "gradient", "examples"]


def test_an_encoding_of_the_order_in_storage_keeps_its_lines_beside_the_maps(trained):
    made = evaluated(trained("encoding=t5"), parts=["attention", "encoding", "receptive_field"])
    figures = figures_of(made)
    assert {"attention_by_distance", "attention_by_offset", "learned_bias"} <= figures.keys()
    assert "learned_bias_by_offset" not in figures


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["centred", "interpolated"])
def test_a_run_whose_sampler_refuses_texts_is_evaluated(trained, positions):
    made = evaluated(trained(f"positions={positions}", "encoding=rotary_axial"), parts=["attention", "receptive_field"])
    assert {"attention_by_offset", "effective_field"} <= figures_of(made).keys()


@pytest.mark.slow
def test_biases_of_offsets_are_maps_and_models_stand_side_by_side(trained):
    runs = [trained(f"encoding={name}") for name in ("relative_table", "rotary_mixed")]
    figures = figures_of(evaluated(*runs, parts=["attention", "encoding", "receptive_field", "rotary"]))
    assert {f"{state}_bias_by_offset_relative_table" for state in ("learned", "initial")} <= figures.keys()
    assert {"rotary_axes_rotary_mixed", "attention_by_offset_rotary_mixed", "effective_field"} <= figures.keys()
    assert "learned_bias_relative_table" not in figures and "rotary_axes_relative_table" not in figures


def test_a_picture_of_many_patches_has_its_maps(trained):
    run = trained("encoding=none", "dataset.side=36", "dataset.sides=[]")  # 81 patches, more than a text with labels
    figures = figures_of(evaluated(run, parts=["attention"]))
    assert figures["attention_overview"].figure.axes[0].images[0].get_array().shape == (81, 81)


def test_a_decoder_of_pictures_attends_to_earlier_cells_alone(trained):
    made = evaluated(trained("model=decoder", "encoding=rotary"), parts=["attention", "receptive_field", "rotary"])
    frame = made.frames["attention_by_offset"]
    assert not ((frame["height"] == 0) & (frame["width"] > 0)).any()
    assert "rotary_turns" in figures_of(made)  # of the order in storage
