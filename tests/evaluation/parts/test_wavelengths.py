"""Wavelengths, against formulas and against the angles by which an encoding turns its keys."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from poslab.encodings import Alibi, NoPosition, PoPE, Positions, Rotary, Sinusoidal, XPos
from poslab.encodings.rotary.scalings import hope, rope_dynamic_ntk
from poslab.evaluation.parts.rotary import spectrum_of, wavelengths, wavelengths_plot
from poslab.report.figures import COLOURS
from tests.encoding_choices import encoding

ROTARY = [
    "rotary", "rope_linear", "rope_ntk", "rope_dynamic_ntk", "yarn", "longrope", "llama3", "rotary_proportional",
    "hope", "xpos", "pope", "rnope",
]  # fmt: skip


@pytest.mark.parametrize("length", [300, 1_000])
@pytest.mark.parametrize("name", ROTARY)
def test_the_spectrum_is_what_keys_turn_by_from_one_position_to_the_next(name, length):
    rotary = encoding(name, head_dim=16)
    positions = Positions.range(length)
    tables = rotary.prepare(positions, positions)
    # The quotient of neighbours is free of where angles are counted from, which is the middle in xPos.
    keys = torch.complex(tables.key_cos, tables.key_sin).reshape(length, -1)
    expected = (keys[1] / keys[0]).angle()
    np.testing.assert_allclose(spectrum_of(rotary, length), expected.numpy(), atol=5e-5)


def test_wavelengths_and_turns_are_those_of_the_formula():
    table = wavelengths(Rotary(64, base=10_000), 256, [512, 4096]).frame
    frequencies = [10_000 ** (-2 * m / 64) for m in range(32)]
    assert list(table["pair"]) == list(range(32))
    assert list(table["frequency"]) == pytest.approx(frequencies)
    assert list(table["wavelength in tokens"]) == pytest.approx([2 * math.pi / theta for theta in frequencies])
    for length in (256, 512, 4096):
        turns = [length * theta / (2 * math.pi) for theta in frequencies]
        assert list(table[f"turns in {length} tokens"]) == pytest.approx(turns)
    assert list(table["never completes a turn in training"]) == [256 * theta < 2 * math.pi for theta in frequencies]
    assert table["never completes a turn in training"].sum() == 19


def test_frequencies_without_an_encoding_will_do():
    table = wavelengths([1.0, 0.01], 1000, []).frame
    assert list(table["turns in 1000 tokens"]) == pytest.approx([159.155, 1.59155], rel=1e-5)
    assert not table["never completes a turn in training"].any()
    np.testing.assert_array_equal(spectrum_of(torch.tensor([1.0, 0.25]), 1), [1.0, 0.25])


def test_under_hope_every_pair_that_turns_completes_a_turn_in_training():
    table = wavelengths(Rotary(64, scaling=partial(hope, training_length=256)), 256, [4096]).frame
    still = table["frequency"] == 0
    assert still.sum() == 19
    assert np.isinf(table["wavelength in tokens"][still]).all()
    assert (table["never completes a turn in training"] == still).all()
    assert (table["turns in 4096 tokens"][still] == 0).all()


def test_turns_of_a_scaling_that_depends_on_the_length_are_those_in_a_text_of_that_length():
    """Dynamic NTK divides the slowest frequency of a text eight times as long by 2 * 8 - 1."""
    rotary = Rotary(64, scaling=partial(rope_dynamic_ntk, training_length=256, factor=2.0))
    slowest = wavelengths(rotary, 256, [2048]).frame.iloc[-1]
    theta = 10_000 ** (-62 / 64)
    assert slowest["frequency"] == pytest.approx(theta)
    assert slowest["turns in 256 tokens"] == pytest.approx(256 * theta / (2 * math.pi))
    assert slowest["turns in 2048 tokens"] == pytest.approx(2048 * theta / 15 / (2 * math.pi))


def test_the_picture_has_every_pair_in_its_colour_and_every_length_as_a_line():
    axes = wavelengths_plot(Rotary(64), 256, [512, 4096]).figure.axes[0]
    points = {to_hex(dots.get_facecolor()[0]).upper(): dots.get_offsets().data for dots in axes.collections}
    expected = [2 * math.pi * 10_000 ** (2 * m / 64) for m in range(32)]
    assert points[COLOURS[0]][:, 1] == pytest.approx([x for x in expected if x <= 256])
    assert points[COLOURS[1]][:, 1] == pytest.approx([x for x in expected if x > 256])
    assert sorted(line.get_ydata()[0] for line in axes.lines) == [256, 512, 4096]
    assert [tick.get_text() for tick in axes.child_axes[0].get_yticklabels()] == ["256", "512", "4,096"]


def test_the_picture_says_how_many_pairs_stand_still():
    axes = wavelengths_plot(Rotary(64, scaling=partial(hope, training_length=256)), 256, []).figure.axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "no wavelength (19 of 32)" in labels


def test_the_picture_shows_the_longest_text_where_the_scaling_depends_on_the_length():
    rotary = Rotary(64, scaling=partial(rope_dynamic_ntk, training_length=256, factor=2.0))
    axes = wavelengths_plot(rotary, 256, [512, 2048]).figure.axes[0]
    (curve,) = (line for line in axes.lines if line.get_label() == "in 2,048 tokens")
    assert curve.get_ydata()[-1] == pytest.approx(15 * 2 * math.pi * 10_000 ** (62 / 64))


@pytest.mark.parametrize("other", [Alibi(4), NoPosition(), Sinusoidal(8)], ids=lambda other: type(other).__name__)
def test_an_encoding_that_turns_nothing_is_refused(other):
    with pytest.raises(ValueError, match=rf"^encoding must .*got {type(other).__name__}$"):
        wavelengths(other, 256, [512])


@pytest.mark.parametrize("frequencies", [[], [1.0, -0.1], [[1.0, 0.1]], [float("nan")], 1.0], ids=str)
def test_what_is_no_spectrum_is_refused(frequencies):
    with pytest.raises(ValueError, match=r"^encoding must"):
        wavelengths(frequencies, 256, [])


@pytest.mark.parametrize("figure", [wavelengths, wavelengths_plot])
def test_lengths_without_a_token_are_refused(figure):
    with pytest.raises(ValueError, match=r"^length must .*got 0"):
        figure(XPos(16), 0, [512])
    with pytest.raises(ValueError, match=r"^length must .*got -5"):
        wavelengths(PoPE(16, 2), 256, [512, -5])


@pytest.mark.parametrize("pairs", [1, 8])
def test_the_axis_of_pairs_has_no_place_for_one_that_is_not_there(pairs):
    axis = wavelengths_plot(np.full(pairs, 0.1), 64, []).figure.axes[0]
    assert axis.get_xlim() == (-0.5, pairs - 0.5)
    assert all(position == round(position) for position in axis.get_xticks())
