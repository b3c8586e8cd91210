"""The table and the pictures of the bound, against sums that are written out."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest

from poslab.encodings import Rotary
from poslab.encodings.rotary.scalings import rope_ntk
from poslab.encodings.rotary.yarn import yarn
from poslab.evaluation.rotary.base_bound import islands, plain_spectrum, smallest_base
from poslab.evaluation.rotary.base_bound_figures import bound_by_length, islands_plot, plain_base, sums_plot
from poslab.evaluation.rotary.wavelengths import spectrum_of
from tests.evaluation.rotary.test_base_bound import sums


def test_the_table_says_for_each_length_whether_and_where_the_bound_fails():
    spectrum = plain_spectrum(10_000, 64)
    frame = bound_by_length(dict.fromkeys((512, 1024, 2048), spectrum), longest_search=1024).frame
    first = next(m for m, value in enumerate(sums(10_000, 64, 1024)) if value < 0)
    assert list(frame["length"]) == [512, 1024, 2048]
    assert list(frame["bound holds"]) == [True, False, False]
    assert frame["first violated at distance"].tolist() == [pd.NA, first, first]
    assert list(frame["base"]) == [10_000] * 3


def test_the_smallest_base_is_searched_for_up_to_a_length_and_for_plain_spectra_only():
    plain, scaled = plain_spectrum(10_000, 64), spectrum_of(Rotary(64, scaling=partial(yarn, training_length=256)), 512)
    table = bound_by_length({512: plain, 2048: plain}, longest_search=512)
    smallest = table.frame["smallest base that holds"]
    assert min(sums(smallest[0], 64, 512)) >= 0
    assert min(sums(smallest[0] * (1 - 1e-7), 64, 512)) < 0
    assert smallest[1] is pd.NA
    assert "above 512 tokens" in table.caption
    assert bound_by_length({512: scaled}, longest_search=512).frame["smallest base that holds"][0] is pd.NA


@pytest.mark.parametrize("base", [10_000.0, 500_000.0, 26_960.0, 1.5, 1e8])
@pytest.mark.parametrize("head_dim", [4, 64, 256])
def test_the_base_is_read_off_a_float32_spectrum(head_dim, base):
    assert plain_base(spectrum_of(Rotary(head_dim, base), 1)) == base


def test_a_spectrum_that_ntk_scaled_has_another_base_and_yarns_has_none():
    ntk = Rotary(64, scaling=partial(rope_ntk, factor=4.0))
    assert plain_base(spectrum_of(ntk, 1)) == pytest.approx(10_000 * 4 ** (64 / 62), rel=1e-5)
    assert plain_base(spectrum_of(Rotary(64, scaling=partial(yarn, training_length=256)), 1)) is None
    assert plain_base(np.array([1.0, 0.1, 0.0])) is None
    assert plain_base(np.array([1.0])) is None


@pytest.mark.parametrize("bins", [5, 50, 5_000])
def test_no_violation_is_lost_between_the_points_of_the_curve(bins):
    expected = np.array(sums(10_000, 64, 1024))
    assert (expected < 0).sum() < 10, "few of many"
    axes = sums_plot(plain_spectrum(10_000, 64), 256, [1024], bins).figure.axes[0]
    starts, lowest = axes.lines[0].get_data()
    assert starts[0] == 1
    assert len(starts) <= bins
    ends = [*starts[1:], 1024]
    assert lowest == pytest.approx([expected[a:b].min() for a, b in zip(starts, ends, strict=True)], abs=1e-10)
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(expected[1:].max())


def test_the_first_violation_is_marked_and_named():
    axes = sums_plot(plain_spectrum(10_000, 64), 256, [1024]).figure.axes[0]
    first = next(m for m, value in enumerate(sums(10_000, 64, 1024)) if value < 0)
    (mark,) = (line for line in axes.lines if line.get_marker() == "v")
    assert mark.get_xdata() == [first]
    assert mark.get_label() == f"first violated at distance {first}"


def test_where_nothing_is_violated_nothing_is_marked():
    axes = sums_plot(plain_spectrum(10_000, 64), 256, [512]).figure.axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training length", "test lengths"]


@pytest.mark.parametrize("training_length", [1, 2])
def test_texts_of_a_token_or_two_can_be_drawn(training_length):
    assert sums_plot(plain_spectrum(10_000, 64), training_length, []).figure.axes


def test_the_islands_of_4096_tokens_are_shaded_and_the_curve_is_above_zero_there_alone():
    axes = islands_plot(128, 4096, base=28_000.0).figure.axes[0]
    shaded = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches]
    assert [round(left, -1) for left, _ in shaded] == [26_950, 28_630, 30_130]
    bases, margins = axes.lines[0].get_data()
    inside = np.any([(left <= bases) & (bases <= right) for left, right in shaded], axis=0)
    np.testing.assert_array_equal(inside, margins >= 0)
    marks = {line.get_label(): line.get_xdata()[0] for line in axes.lines if line.get_marker() in "vo"}
    assert marks["this encoding: 28,000"] == 28_000
    assert min(axes.get_xlim()) < marks["smallest base: 26,952"] == pytest.approx(shaded[0][0])


def test_the_curve_of_islands_is_the_smallest_sum():
    axes = islands_plot(16, 100, points=5).figure.axes[0]
    bases, margins = axes.lines[0].get_data()
    assert margins == pytest.approx([min(sums(base, 16, 100)) for base in bases], abs=1e-10)
    assert set(islands(16, 100, bases[0], bases[-1]).to_numpy().ravel()) <= set(bases)
    assert smallest_base(16, 100) == pytest.approx(bases[0] / 0.96)


def test_there_are_no_islands_to_draw_where_no_base_holds_or_every_one_does():
    assert islands_plot(2, 64) is None
    assert islands_plot(64, 2) is None
