"""The search for bases, against sums that are written out and bases that are tried one by one."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest

from poslab.encodings import Rotary
from poslab.encodings.rotary.scalings import rope_ntk
from poslab.encodings.rotary.yarn import yarn
from poslab.evaluation.base_bound import (
    blocks_of_sums,
    bound_by_length,
    first_violation,
    plain_base,
    plain_spectrum,
    smallest_base,
    sums_plot,
)
from poslab.evaluation.parts.rotary import spectrum_of
from poslab.pretrained.inspection.spectrum import BLOCK


def sum_at(distance: int, base: float, head_dim: int) -> float:
    return math.fsum(math.cos(distance * base ** (-2 * i / head_dim)) for i in range(head_dim // 2))


def sums(base: float, head_dim: int, length: int) -> list[float]:
    return [sum_at(m, base, head_dim) for m in range(length)]


def smallest_sums(bases: np.ndarray, head_dim: int, length: int) -> np.ndarray:
    """The smallest sum of cosines for each of many bases."""
    frequencies = bases[:, None] ** (-np.arange(0, head_dim, 2) / head_dim)
    return np.min([np.cos(m * frequencies).sum(1) for m in range(length)], axis=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("length", "published"),
    [(4096, "2.7e+04"), (8192, "8.4e+04"), (32_768, "6.3e+05"), (4000, "2.7e+04"), (8000, "8.4e+04")],
)
def test_the_smallest_bases_are_those_of_the_paper_to_two_digits(length, published):
    """The 4k, 8k and 32k of the paper's table, taken as powers of two; thousands give the same two digits."""
    base = smallest_base(128, length)
    assert f"{base:.1e}" == published
    assert base is not None and first_violation(plain_spectrum(base, 128), length) is None


def test_a_head_of_64_at_base_10_000_violates_the_bound_within_1024_tokens():
    first = first_violation(plain_spectrum(10_000, 64), 1024)
    assert first == next(m for m in range(1024) if sum_at(m, 10_000, 64) < 0)
    assert first_violation(plain_spectrum(10_000, 64), first) is None


@pytest.mark.parametrize(("head_dim", "length"), [(32, 256), (16, 100), (64, 200), (6, 40)])
def test_no_base_below_the_smallest_satisfies_the_bound(head_dim, length):
    smallest = smallest_base(head_dim, length)
    assert smallest_sums(np.array([smallest]), head_dim, length) >= 0
    assert (smallest_sums(np.geomspace(1.0001, smallest * (1 - 1e-7), 5_000), head_dim, length) < 0).all()


def test_where_no_base_will_do_none_is_given():
    """A head of one pair turns at frequency 1 whatever the base is."""
    assert smallest_base(2, 3) is None


@pytest.mark.parametrize("length", [1, 2])
def test_a_text_without_far_tokens_asks_for_no_base(length):
    assert smallest_base(64, length) == 1


def test_sums_are_exact_at_a_distance_of_a_million():
    length = 1_000_003
    for start, sums in blocks_of_sums(plain_spectrum(500_000, 128), length):
        last, last_sums = start, sums
    for m in (last, length - 500, length - 1):
        assert last_sums[m - last] == pytest.approx(sum_at(m, 500_000, 128), abs=1e-8)
    assert last + len(last_sums) == length


def test_a_violation_is_found_beyond_the_first_block():
    """One frequency: its cosine is negative from a quarter turn on."""
    quarter = math.pi / 2 / 1.7e-5
    assert quarter > BLOCK
    assert first_violation(np.array([1.7e-5]), 200_000) == math.ceil(quarter)
    assert first_violation(np.array([1.7e-5]), math.ceil(quarter)) is None


def test_pairs_that_stand_still_make_up_for_as_many_that_turn():
    turning = plain_spectrum(10_000, 16)
    assert first_violation(turning, 4096) is not None
    assert first_violation(np.concatenate([turning, np.zeros(8)]), 4096) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plain_spectrum(1.0, 64), r"base must .*got 1.0"),
        (lambda: plain_spectrum(math.inf, 64), r"base must .*got inf"),
        (lambda: plain_spectrum(1e4, 7), r"head_dim must .*got 7"),
        (lambda: first_violation(plain_spectrum(1e4, 64), 0), r"length must .*got 0"),
        (lambda: smallest_base(0, 10), r"head_dim must .*got 0"),
        (lambda: smallest_base(64, 0), r"length must .*got 0"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


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
