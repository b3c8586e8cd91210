import math

import pytest
import torch

from poslab.encodings import Positions, QueryRows
from poslab.encodings.bias.alibi import slope_exponents
from poslab.evaluation.learned_bias import bias_plot, learned_bias
from tests.encoding_choices import stack


def changed(name: str, **shape):
    """The encodings of a stack after some training, so to say."""
    encodings, generator = stack(name, **shape), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in encodings.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return encodings


def test_alibis_curves_are_straight_lines_with_its_slopes():
    frame = learned_bias(stack("alibi"), 50)
    assert list(frame.columns) == ["layers", "head", "distance", "bias"]
    assert set(frame["layers"]) == {"all layers"}
    for row in frame.itertuples():
        assert row.bias == pytest.approx(-row.distance * 2.0 ** -slope_exponents(4)[row.head], rel=1e-6)


def test_t5s_curves_are_its_table_by_bucket_beside_its_start():
    encodings, start = changed("t5"), stack("t5")
    frame = learned_bias(encodings, 300, start)
    near = frame[frame["distance"] < 16]
    for column, table in (("bias", encodings.layer(0).table), ("start", start.layer(0).table)):
        expected = [table[row.distance, row.head].item() * math.sqrt(8) for row in near.itertuples()]
        assert near[column].tolist() == pytest.approx(expected, rel=1e-5)
    far = frame[(frame["distance"] >= 113) & (frame["head"] == 2)]
    assert far["bias"].nunique() == 1


@pytest.mark.parametrize("name", ["fire", "tupe", "dape", "tisa", "kerple_log", "kerple_power", "sandwich"])
def test_a_curve_is_the_last_row_of_what_the_encoding_adds_to_all_pairs(name):
    encodings, length = changed(name), 40
    frame = learned_bias(encodings, length)
    encoding = encodings.layer(0)
    inner = getattr(encoding, "over", encoding)
    positions = Positions.range(length)
    tables = inner.prepare(positions, positions)
    whole = inner.pair_bias(QueryRows(tables, slice(0, length), 0, 1.0))
    if whole is None:
        whole = inner.bias(tables).matrix()
    for head in range(4):
        of_head = frame[(frame["head"] == head) & (frame["layers"] == frame["layers"][0])]
        expected = [whole[0, head, -1, length - 1 - distance].item() for distance in range(length)]
        assert of_head["bias"].tolist() == pytest.approx(expected, abs=1e-5)


def test_layers_that_learn_for_themselves_have_curves_of_their_own():
    assert list(learned_bias(stack("tisa"), 4)["layers"].unique()) == ["layer 0", "layer 1"]
    assert list(learned_bias(stack("per_layer", num_layers=4), 4)["layers"].unique()) != ["all layers"]


@pytest.mark.parametrize("name", ["rotary", "none", "cope"])
def test_an_encoding_without_a_bias_has_no_curve(name):
    assert learned_bias(stack(name), 10).empty


def test_the_picture_of_a_bias_shades_what_lies_past_the_training_length():
    frame = learned_bias(changed("t5"), 300, stack("t5"))
    (panel,) = bias_plot(frame, training_length=100).figure.axes
    (shade,) = panel.patches
    assert shade.get_bbox().x0 == 100
    assert len(panel.lines) == 4 + 4
    head = frame[frame["head"] == 0]
    assert panel.lines[0].get_ydata().tolist() == head["bias"].tolist()
    assert panel.lines[1].get_ydata().tolist() == head["start"].tolist()
    assert not bias_plot(frame, training_length=300).figure.axes[0].patches


def test_a_start_of_another_depth_is_told_so():
    with pytest.raises(ValueError, match=r"^start must .*got 3$"):
        learned_bias(stack("t5"), 10, stack("t5", num_layers=3))
    with pytest.raises(ValueError, match=r"^length must .*got 0$"):
        learned_bias(stack("t5"), 0)
    with pytest.raises(ValueError, match=r"^max_length=512.*end before position 512"):
        learned_bias(stack("tupe"), 513)


def test_a_curve_of_fewer_distances_is_a_part_of_the_whole_one():
    encodings, start = changed("t5"), stack("t5")
    whole, part = (learned_bias(encodings, 5000, start, most) for most in (None, 100))
    assert 50 * 4 < len(part) <= 100 * 4
    assert {0, 1, 2, 3, 4999} <= set(part["distance"])
    both = part.merge(whole)
    assert len(both) == len(part)
