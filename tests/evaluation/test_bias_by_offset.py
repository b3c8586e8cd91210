"""Biases by offset, against the bias between all cells of a grid."""

import pytest
import torch

from poslab.encodings import Positions, StackEncodings, StackShape
from poslab.evaluation.learned_bias import bias_by_offset, bias_maps, learned_bias
from tests.encoding_choices import factory
from tests.report.phone import smallest_label

SIZES, AXES = (3, 5), ("height", "width")
SHAPE = StackShape(32, 2, 4, 4, 8, causal=False)


def stack(name: str, seed: int = 0) -> StackEncodings:
    torch.manual_seed(seed)
    return StackEncodings(factory(name, grid=SIZES), SHAPE)


@pytest.mark.parametrize("name", ["alibi_grid", "t5_axes", "relative_table", "swin_v2"])
def test_the_bias_at_an_offset_is_that_between_any_two_such_cells(name):
    encodings, positions = stack(name), Positions.grid(*SIZES)
    frame = bias_by_offset(encodings, SIZES, AXES)
    assert frame["layers"].nunique() == len(list(encodings))
    encoding = encodings.layer(1)
    bias = encoding.bias(encoding.prepare(positions, positions)).matrix()[0].detach()
    last = frame[frame["layers"] == frame["layers"].iloc[-1]].set_index(["head", *AXES])["bias"]
    assert len(last) == 4 * 5 * 9
    for head in range(4):
        for i in range(15):
            for j in range(15):
                offset = (j // 5 - i // 5, j % 5 - i % 5)
                assert last[(head, *offset)] == pytest.approx(float(bias[head, i, j]), abs=1e-5)


def test_encodings_of_one_axis_have_a_curve_and_those_of_several_a_map():
    assert len(bias_by_offset(stack("t5"), SIZES, AXES)) == 0
    assert len(learned_bias(stack("t5"), 15, on_axes=True)) > 0
    assert len(learned_bias(stack("t5_axes"), 15, on_axes=True)) == 0
    assert len(bias_by_offset(stack("rotary_axial"), SIZES, AXES)) == 0


def test_a_clip_has_maps_at_the_same_time():
    axes = ("time", "height", "width")
    bias = bias_by_offset(stack("alibi_grid"), (2, 3, 5), axes)
    assert set(bias["time"]) == {-1, 0, 1}
    (picture,) = bias_maps(bias, axes)
    assert picture.figure.axes[0].images[0].get_array().shape == (5, 9)


def test_maps_are_white_at_zero_and_of_the_start_only_where_it_differs():
    learned, start = stack("relative_table"), stack("relative_table", seed=1)
    pictures = list(bias_maps(bias_by_offset(learned, SIZES, AXES, start), AXES))
    assert [picture.name for picture in pictures] == ["learned_bias_by_offset", "initial_bias_by_offset"]
    image = pictures[0].figure.axes[0].images[0]
    assert image.norm.vmin == -image.norm.vmax and image.get_array().shape == (5, 9)
    assert all(smallest_label(picture) >= 8 for picture in pictures)
    (alone,) = bias_maps(bias_by_offset(learned, SIZES, AXES, learned), AXES)
    assert alone.name == "learned_bias_by_offset"
