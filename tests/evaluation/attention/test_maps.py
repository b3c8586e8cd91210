import itertools

import numpy as np
import pytest
import torch

from poslab.evaluation.attention.maps import (
    attention_maps,
    attention_overview,
    attention_rows,
    visible_label,
)
from poslab.evaluation.attention.statistics import attention_by_distance, distance_plot
from tests.encoding_choices import small_decoder, some_tokens


def panels_of(picture):
    return [axes for axes in picture.figure.axes if axes.axison]


def test_attention_against_distance_has_a_panel_for_each_layer_and_a_line_for_each_head():
    frame = attention_by_distance(small_decoder("alibi"), some_tokens(2, 100))
    picture = distance_plot(frame, training_length=64)
    panels = panels_of(picture)
    assert [panel.get_title() for panel in panels] == ["layer 0", "layer 1"]
    for layer, panel in enumerate(panels):
        lines = [line for line in panel.lines if line.get_label() in "0123"]
        assert [line.get_label() for line in lines] == ["0", "1", "2", "3"]
        first = frame[(frame["layer"] == layer) & (frame["head"] == 2)]["attention"].to_numpy()
        assert lines[2].get_xdata()[:4].tolist() == [0, 1, 2, 3]
        assert lines[2].get_ydata()[:4] == pytest.approx(first[:4])
        assert 64 in panel.lines[-1].get_xdata()


def test_a_map_shows_the_square_root_of_each_weight_beside_the_labels_of_its_tokens():
    model, tokens = small_decoder("rotary"), some_tokens(1, 6)
    labels = ["def", " f", "\n", "$x$", "\t", "averylongtokenindeed"]
    pictures = attention_maps(model, tokens[0], labels)
    assert [picture.name for picture in pictures] == ["attention_layer_0", "attention_layer_1"]
    weights = [block.weights[0].numpy() for block in attention_rows(model, tokens)]
    for picture, of_layer in zip(pictures, weights, strict=True):
        panels = panels_of(picture)
        assert len(panels) == 4
        for panel, expected in zip(panels, of_layer, strict=True):
            drawn = np.ma.filled(panel.images[0].get_array(), 0.0)
            np.testing.assert_allclose(drawn**2, expected, atol=1e-6)
            shown = ["def", "␣f", "⏎", "$x$", "→", "averylongto…"]
            assert [label.get_text() for label in panel.get_xticklabels()] == shown
            assert not any(label.get_parse_math() for label in panel.get_xticklabels())
    assert len(panels_of(attention_overview(model, tokens[0]))) == 2 * 4


@pytest.mark.slow
def test_labels_never_overlap():
    model = small_decoder("rotary", num_layers=1)
    for length in (6, 32, 33, 64):
        (picture,) = attention_maps(model, some_tokens(1, length)[0], ["word"] * length)
        picture.figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in picture.figure.axes[0].get_yticklabels()]
        assert len(boxes) == length
        assert not any(item.overlaps(other) for item, other in itertools.pairwise(boxes)), length


def test_white_space_is_seen():
    assert visible_label(" a\n") == "␣a⏎"


@pytest.mark.parametrize(
    ("length", "labels", "sentence"),
    [(65, 65, r"tokens must .*got 65"), (5, 4, "labels must")],
)
def test_a_text_that_cannot_be_labelled_is_told_so(length, labels, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        attention_maps(small_decoder("none"), torch.zeros(length, dtype=torch.long), ["a"] * labels)
