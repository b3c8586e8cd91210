"""FoPE against a loop over its formula in float64, and against rotary where it mixes nothing."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from poslab.encodings import FoPE, Positions, Rotary
from poslab.encodings.rotary.scalings import hope
from tests.encoding_choices import encoding, small_decoder
from tests.encodings.agreement import default_dtype
from tests.encodings.rotary.turned import turned

D, H, G, L = 16, 4, 2, 64


def queries_and_keys(length: int):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, n, length, D, generator=generator, dtype=torch.float64) for n in (H, G))


@pytest.mark.parametrize("clipped", ["identity", "ones"])
@pytest.mark.parametrize(("base", "frequencies", "columns"), [(10_000.0, 3, 3), (30.0, 6, 4), (4.0, 8, 4)])
def test_queries_and_keys_are_those_of_a_loop_over_the_formula(base, frequencies, columns, clipped):
    fope = FoPE(D, H, G, training_length=L, base=base, clipped=clipped)
    of_cos, of_sin = (x.double() for x in fope._coefficients_GNP)
    assert of_cos.shape == (G, frequencies, columns)
    ids = [0, 3, 70, 200]
    q, k = queries_and_keys(len(ids))
    ours = turned(fope, Positions(torch.tensor(ids), 201), q, k)
    for x, turned_x, group in ((q, ours[0], H // G), (k, ours[1], 1)):
        for h in range(x.shape[1]):
            for t, p in enumerate(ids):
                for m in range(D // 2):
                    cos, sin = 1.0, float(clipped == "ones")
                    if m < columns:
                        theta = [base ** (-2 * n / D) for n in range(frequencies)]
                        cos = sum(of_cos[h // group, n, m] * math.cos(p * theta[n]) for n in range(frequencies))
                        sin = sum(of_sin[h // group, n, m] * math.sin(p * theta[n]) for n in range(frequencies))
                    first, second = x[0, h, t, m], x[0, h, t, m + D // 2]
                    expected = (first * cos - second * sin, second * cos + first * sin)
                    assert turned_x[0, h, t, m].item() == pytest.approx(float(expected[0]), abs=2e-5)
                    assert turned_x[0, h, t, m + D // 2].item() == pytest.approx(float(expected[1]), abs=2e-5)


def test_where_nothing_is_mixed_it_is_rotary_whose_slow_pairs_stand_still():
    q, k = queries_and_keys(80)
    positions = Positions.range(80, 1_000)
    fope = FoPE(D, H, G, training_length=L, gain=0.0)
    rotary = Rotary(D, scaling=partial(hope, training_length=L))
    for ours, theirs in zip(turned(fope, positions, q, k), turned(rotary, positions, q, k), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_random_numbers_are_as_large_as_xavier_and_ones_are_spread_over_the_rows():
    fope = FoPE(512, 4, 4, training_length=10**6, gain=0.5)
    coefficients = torch.stack(fope._coefficients_GNP)
    rows, columns = coefficients.shape[2:]
    mean = coefficients.mean((0, 1))
    step = math.ceil(rows / columns)
    on = [(i * step, i) for i in range(columns) if i * step < rows]
    assert all(abs(mean[place] - 1) < 0.2 for place in on)
    mean[tuple(zip(*on, strict=True))] -= 1
    assert mean.abs().max() < 0.2
    spread = (coefficients - coefficients.mean((0, 1), keepdim=True)).std()
    assert spread.item() == pytest.approx(0.5 * math.sqrt(2 / (rows + columns)) * math.sqrt(7 / 8), rel=0.02)


def test_a_model_has_the_same_random_numbers_again_and_another_seed_has_others():
    ours, again, other = (FoPE(D, H, G, training_length=L, seed=seed)._coefficients_GNP[0] for seed in (3, 3, 4))
    assert torch.equal(ours, again) and not torch.equal(ours, other)
    with torch.device("meta"):
        assert FoPE(D, H, G, training_length=L)._coefficients_GNP[0].device.type == "cpu"
    assert not small_decoder("fope").encodings.state_dict()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_of_pytorch_while_it_is_made_changes_no_random_number(dtype):
    ours = FoPE(D, H, G, training_length=L)
    with default_dtype(dtype):
        other = FoPE(D, H, G, training_length=L)
    for one, again in zip(ours._coefficients_GNP, other._coefficients_GNP, strict=True):
        assert one.dtype == again.dtype == torch.float32 and torch.equal(one, again)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"head_dim": 6}, "head_dim must .*, got 6"),
        ({"training_length": 6}, "training_length must .*, got 6"),
        ({"gain": -0.1}, "gain must be .*, got -0.1"),
        ({"clipped": "zeros"}, "clipped must .*, got 'zeros'"),
        ({"seed": -1}, "seed must be .*, got -1"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(arguments, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        FoPE(**{"head_dim": D, "num_heads": H, "num_kv_heads": G, "training_length": L, **arguments})


def test_its_length_is_that_of_training():
    assert encoding("fope").num_frequencies == 2  # of 8 channels at 512 tokens: 1 and 0.1 turn, 0.01 does not
