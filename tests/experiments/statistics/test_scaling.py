"""Scaling laws and trends of planted data, and decisions of small sizes."""

from __future__ import annotations

import numpy as np
import pytest

from poslab.experiments.statistics.scaling import scaling_law, trend

SIZES = (1e5, 3e5, 1e6, 3e6)
SEEDS = (5, 4, 2, 1)
LADDER = [(n, 20 * n) for n in SIZES] + [(n, 60 * n) for n in SIZES[:3]]


def losses(constants, points, seeds, rng, deviation):
    e, a, alpha, *rest = constants
    means = [e + a * n**-alpha + (rest[0] * d ** -rest[1] if rest else 0) for n, d in points]
    return [mean + deviation * rng.standard_normal(count) for mean, count in zip(means, seeds, strict=True)]


def test_a_planted_law_lies_in_the_intervals_of_its_constants_and_predicts_a_further_size():
    """Of parameters alone. 25 fits: with a coverage of 95%, fewer than 20 hold by chance once in 4,000 times."""
    planted, rng, inside = (1.2, 20.0, 0.3), np.random.default_rng(0), np.zeros(4)
    for _ in range(25):
        law = scaling_law(losses(planted, LADDER[:4], SEEDS, rng, 0.004), SIZES)
        predicted = law.predicted(1e7, 2e8, seeds=1)
        (measured,) = losses(planted, [(1e7, 2e8)], [1], rng, 0.004)
        known = [*zip(law.constants().values(), planted, strict=True), (predicted, measured.mean())]
        inside += [low <= value <= high for (_, low, high), value in known]
    assert inside.min() >= 20


def test_a_law_of_parameters_and_tokens_is_recovered_without_noise():
    planted = (1.0, 30.0, 0.35, 50.0, 0.3)
    points = [(n, r * n) for n in (*SIZES, 1e7) for r in (5, 20, 80)]
    values = losses(planted, points, [2] * 15, np.random.default_rng(0), 1e-7)
    law = scaling_law(values, *map(list, zip(*points, strict=True)))
    assert [value for value, _, _ in law.constants().values()][::2] == pytest.approx(planted[::2], rel=0.08)
    ((loss,),) = losses(planted, [(1e8, 2e9)], [1], np.random.default_rng(0), 0)
    assert law.predicted(1e8, 2e9, 1)[0] == pytest.approx(loss, rel=5e-3)


@pytest.mark.parametrize(
    ("points", "with_tokens", "sentence"),
    [
        (LADDER[:2], False, "3 sizes with runs are needed, got 2"),
        (LADDER[:4] + LADDER[:1], False, None),
        (LADDER[:4], True, "6 sizes with runs are needed, got 4"),
        ([(n, 20 * n) for n in (*SIZES, 1e7, 3e7)], True, "tokens in the same proportion"),
        ([(1e5, d) for d in range(1, 9)], False, "three different sizes"),
    ],
)
def test_too_few_sizes_for_the_constants_are_one_sentence(points, with_tokens, sentence):
    values = losses((1.0, 20.0, 0.3), points, [2] * len(points), np.random.default_rng(0), 0.01)
    parameters, tokens = map(list, zip(*points, strict=True))
    if sentence is None:
        scaling_law(values, parameters, tokens if with_tokens else None)
        return
    with pytest.raises(ValueError, match=f"^[^\n]*{sentence}[^\n]*$"):
        scaling_law(values, parameters, tokens if with_tokens else None)


def test_sizes_with_one_seed_have_a_law_without_intervals():
    law = scaling_law(losses((1.2, 20.0, 0.3), LADDER[:4], [1] * 4, np.random.default_rng(0), 0.001), SIZES)
    value, low, high = law.predicted(1e7, 2e8, 1)
    assert np.isfinite(value) and np.isnan([low, high]).all()


def pair(differences, rng, deviation=0.003):
    means = [2 - 0.2 * np.log10(n / 1e5) for n in SIZES]
    base = [mean + deviation * rng.standard_normal(count) for mean, count in zip(means, SEEDS, strict=True)]
    other = [m + d + deviation * rng.standard_normal(c) for m, d, c in zip(means, differences, SEEDS, strict=True)]
    return other, base


@pytest.mark.parametrize(
    ("differences", "word"),
    [
        ((0.02, 0.04, 0.06, 0.08), "grows"),
        ((-0.02, -0.04, -0.06, -0.08), "grows"),
        ((0.08, 0.06, 0.04, 0.02), "shrinks"),
        ((0.06, 0.02, -0.02, -0.06), "reverses"),
        ((0.05, 0.05, 0.05, 0.05), "stays"),
    ],
)
def test_a_planted_difference_is_named(differences, word):
    known = trend(pair(differences, np.random.default_rng(1)), SIZES, 1e7, margin=0.03)
    assert known.word == word


def test_a_difference_without_a_margin_or_seeds_is_inconclusive():
    values = pair((0.05,) * 4, np.random.default_rng(1), deviation=0.1)
    assert trend(values, SIZES, 1e7).word == "inconclusive"
    assert (
        trend(tuple([v[:1] for v in of_encoding] for of_encoding in values), SIZES, 1e7, margin=0.5).word
        == "inconclusive"
    )


def test_a_constant_difference_is_called_otherwise_in_at_most_5_of_100_times():
    rng, false, covered = np.random.default_rng(0), 0, 0
    for _ in range(200):
        known = trend(pair((0.02,) * 4, rng), SIZES, 1e7)
        false += known.word != "inconclusive"
        covered += known.predicted[1] <= 0.02 + 0.003 * rng.standard_normal() * 2**0.5 <= known.predicted[2]
    assert false <= 17  # 5% of 200 and two standard deviations
    assert covered >= 183
