import pytest
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor
from x_transformers.x_transformers import AlibiPositionalBias

from poslab.encodings import Alibi, Positions
from tests.encodings.agreement import bias_matrix

# Falcon's tensor is no oracle: it is rounded to bfloat16, divided by sqrt(D), and added twice on its eager path.
HEAD_COUNTS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 16, 20, 24, 25, 32, 40, 48, 64, 71, 96, 112]


def slopes(alibi: Alibi) -> torch.Tensor:
    return -alibi.bias_at(torch.tensor(1))


@pytest.mark.parametrize("num_heads", HEAD_COUNTS)
def test_slopes_are_those_of_bloom_x_transformers_and_mpt(num_heads):
    ours = slopes(Alibi(num_heads))
    bloom = build_alibi_tensor(torch.ones(1, 2), num_heads, torch.float32)[:, 0, 1]
    mpt = -build_mpt_alibi_tensor(num_heads, 2)[:, 0, 0]
    torch.testing.assert_close(ours, bloom, rtol=1e-5, atol=0)
    torch.testing.assert_close(ours, torch.tensor(AlibiPositionalBias._get_slopes(num_heads)), rtol=1e-5, atol=0)
    torch.testing.assert_close(ours, mpt, rtol=1e-5, atol=0)


@pytest.mark.parametrize("num_heads", [4, 6])
@pytest.mark.parametrize("max_exponent", [4, 16])
def test_slopes_under_another_exponent_are_those_of_mpt(num_heads, max_exponent):
    mpt = -build_mpt_alibi_tensor(num_heads, 2, alibi_bias_max=max_exponent)[:, 0, 0]
    torch.testing.assert_close(slopes(Alibi(num_heads, max_exponent)), mpt, rtol=1e-5, atol=0)


def test_three_heads_have_the_exponents_4_8_and_2():
    assert slopes(Alibi(3)).tolist() == [2**-4, 2**-8, 2**-2]


@pytest.mark.parametrize("num_queries", [1, 5, 24])
def test_bias_is_that_of_x_transformers(num_queries):
    ours = bias_matrix(Alibi(6), Positions.range(num_queries, 24 - num_queries), Positions.range(24))
    torch.testing.assert_close(ours, AlibiPositionalBias(6)(num_queries, 24), rtol=0, atol=1e-5)


def test_attention_weights_under_the_bias_are_those_of_bloom():
    logits = torch.randn(6, 24, 24, generator=torch.Generator().manual_seed(0))
    future = torch.ones(24, 24, dtype=torch.bool).triu(1)
    bloom = build_alibi_tensor(torch.ones(1, 24), 6, torch.float32)  # slope * j: the same after softmax
    positions = Positions.range(24)
    ours = (logits + bias_matrix(Alibi(6), positions, positions)).masked_fill(future, -torch.inf).softmax(-1)
    theirs = (logits + bloom).masked_fill(future, -torch.inf).softmax(-1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("contiguous", [True, False])
def test_alibi_bias_is_relative_at_position_100k(contiguous):
    near, far = (Positions(torch.arange(8) + start, start + 8, contiguous) for start in (0, 100_000))
    assert torch.equal(bias_matrix(Alibi(6), near, near), bias_matrix(Alibi(6), far, far))


def test_an_offset_for_keys_ahead_is_the_matrix_of_eify():
    """As its README has it, at a slope of 1; ours is 2 ** -8 for a single head."""
    expected = [
        [0, -0.5, -1.5, -2.5, -3.5],
        [-1, 0, -0.5, -1.5, -2.5],
        [-2, -1, 0, -0.5, -1.5],
        [-3, -2, -1, 0, -0.5],
        [-4, -3, -2, -1, 0],
    ]
    positions = Positions.range(5)
    ours = bias_matrix(Alibi(1, asymmetry=0.5, causal=False), positions, positions)
    assert (ours[0] * 2**8).tolist() == expected


def test_an_offset_for_keys_behind_is_the_bias_of_ruoss():
    """It lifts the lower triangle of -slope * |i - j| by half a slope."""
    positions = Positions.range(7)
    ours = bias_matrix(Alibi(6, asymmetry=-0.5, causal=False), positions, positions)
    for head, slope in enumerate(build_alibi_tensor(torch.ones(1, 2), 6, torch.float32)[:, 0, 1].tolist()):
        for i in range(7):
            for j in range(7):
                expected = -slope * abs(i - j) + (0.5 * slope if j < i else 0.0)
                assert float(ours[head, i, j]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("asymmetry", [0.5, -0.5, 0.25])
def test_an_asymmetric_encoder_has_no_two_distances_with_the_same_bias(asymmetry):
    at_distances = Alibi(2, asymmetry=asymmetry, causal=False).bias_at(torch.arange(-20, 21))
    assert all(len(head.unique()) == 41 for head in at_distances)


def test_a_symmetric_encoder_cannot_tell_left_from_right():
    distance = torch.arange(-20, 21)
    alibi = Alibi(2, causal=False)
    assert torch.equal(alibi.bias_at(distance), alibi.bias_at(-distance))


@pytest.mark.parametrize("asymmetry", [0.5, -0.5])
def test_asymmetry_changes_nothing_in_a_causal_stack(asymmetry):
    distance = torch.arange(-20, 21)
    assert torch.equal(Alibi(2, asymmetry=asymmetry).bias_at(distance), Alibi(2).bias_at(distance))


def test_no_real_distance_is_rewarded():
    """A key 0.2 ahead is not 0.3 behind under an offset of 0.5."""
    near = Alibi(2, asymmetry=0.5, causal=False).bias_at(torch.tensor([-0.2, -0.5, 0.0]))
    assert (near == 0).all()
