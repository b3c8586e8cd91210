"""The search for bases, against sums that are written out and bases that are tried one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from poslab.evaluation.rotary.base_bound import (
    BLOCK,
    blocks_of_sums,
    first_violation,
    holds,
    islands,
    margin,
    plain_spectrum,
    smallest_base,
)


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
    assert holds(base, 128, length)


def test_a_head_of_64_at_base_10_000_violates_the_bound_within_1024_tokens():
    assert not holds(10_000, 64, 1024)
    first = first_violation(plain_spectrum(10_000, 64), 1024)
    assert first == next(m for m in range(1024) if sum_at(m, 10_000, 64) < 0)
    assert holds(10_000, 64, first)
    assert not holds(10_000, 64, first + 1)


def test_for_4096_tokens_one_island_is_near_26_960_and_the_next_begins_at_about_28_650():
    first, second = islands(128, 4096, 20_000, 29_500).itertuples(index=False)
    assert 26_940 < first[0] < 26_960 < first[1] < 26_980
    assert second[0] == pytest.approx(28_650, rel=1e-3)
    for base, satisfied in [(26_940, False), (26_960, True), (27_500, False), (28_600, False), (28_800, True)]:
        assert (min(sums(base, 128, 4096)) >= 0) is satisfied


@pytest.mark.parametrize(("head_dim", "length", "low", "high"), [(32, 256, 2_000, 10_000), (8, 64, 500, 50_000)])
def test_islands_hold_every_base_that_satisfies_the_bound_and_no_other(head_dim, length, low, high):
    bases = np.geomspace(low, high, 4_001)[1:-1]
    found = islands(head_dim, length, low, high)
    inside = np.any([(left <= bases) & (bases <= right) for left, right in found.itertuples(index=False)], axis=0)
    np.testing.assert_array_equal(inside, smallest_sums(bases, head_dim, length) >= 0)
    assert inside.any()
    assert len(found) > 1


def test_an_island_ends_where_the_bound_fails():
    found = islands(32, 256, 2_000, 10_000).to_numpy()
    inner = found.ravel()[(found.ravel() > 2_000) & (found.ravel() < 10_000)]
    outwards = np.where(np.isin(inner, found[:, 0]), 1 - 1e-7, 1 + 1e-7)
    assert len(inner) > 2
    assert (smallest_sums(inner, 32, 256) >= 0).all()
    assert (smallest_sums(inner * outwards, 32, 256) < 0).all()


@pytest.mark.parametrize(("head_dim", "length"), [(32, 256), (16, 100), (64, 200), (6, 40)])
def test_no_base_below_the_smallest_satisfies_the_bound(head_dim, length):
    smallest = smallest_base(head_dim, length)
    assert smallest_sums(np.array([smallest]), head_dim, length) >= 0
    assert (smallest_sums(np.geomspace(1.0001, smallest * (1 - 1e-7), 5_000), head_dim, length) < 0).all()


def test_where_no_base_will_do_none_is_given():
    """A head of one pair turns at frequency 1 whatever the base is."""
    assert smallest_base(2, 3) is None
    assert smallest_base(128, 4096, high=26_000) is None
    assert islands(128, 4096, 20_000, 26_000).empty


@pytest.mark.parametrize("length", [1, 2])
def test_a_text_without_far_tokens_asks_for_no_base(length):
    assert smallest_base(64, length) == 1
    assert islands(64, length, 5, 50).to_numpy() == pytest.approx(np.array([[5, 50]]))


@pytest.mark.parametrize(("base", "head_dim", "length"), [(10_000, 64, 700), (10_000, 64, 1_500), (50.5, 6, 90)])
def test_the_margin_is_the_smallest_sum(base, head_dim, length):
    expected = min(sums(base, head_dim, length))
    assert margin(base, head_dim, length) == pytest.approx(expected, abs=1e-11)


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
        (lambda: holds(1.0, 64, 10), "base must be a number greater than 1, got 1.0"),
        (lambda: holds(math.inf, 64, 10), "base must be a number greater than 1, got inf"),
        (lambda: holds(1e4, 7, 10), "head_dim must be an even number of at least 2, got 7"),
        (lambda: holds(1e4, 64, 0), "length must be at least 1, got 0"),
        (lambda: smallest_base(0, 10), "head_dim must be an even number of at least 2, got 0"),
        (lambda: smallest_base(64, 0), "length must be at least 1, got 0"),
        (lambda: smallest_base(64, 10, high=1.0), "high must be greater than low, which is 1.0, got 1.0"),
        (lambda: islands(64, 10, 0.5, 9), "low must be a number of at least 1, got 0.5"),
        (lambda: islands(64, 10, 9, 8), "high must be greater than low, which is 9, got 8"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
