import pytest
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from poslab.encodings import Alibi
from poslab.encodings.bias.alibi_learned import LearnedAlibi
from tests.encodings.agreement import assert_bias


@pytest.mark.parametrize("num_heads", [1, 3, 6, 8])
def test_learned_slopes_start_at_the_fixed_ones(num_heads):
    distance = torch.arange(-30, 31)
    learned = LearnedAlibi(num_heads, max_exponent=6.0, asymmetry=0.5, causal=False)
    fixed = Alibi(num_heads, max_exponent=6.0, asymmetry=0.5, causal=False)
    assert torch.equal(learned.bias_at(distance), fixed.bias_at(distance))
    bloom = build_alibi_tensor(torch.ones(1, 2), num_heads, torch.float32)[:, 0, 1]
    ours = -LearnedAlibi(num_heads).bias_at(torch.tensor(1))
    torch.testing.assert_close(ours, bloom, rtol=1e-5, atol=0)


def test_bias_and_gradient_are_those_of_the_formula():
    alibi = LearnedAlibi(3)
    torch.manual_seed(0)
    alibi.exponents.data += torch.randn(3)
    assert_bias(alibi, lambda distance: -(2.0**-alibi.exponents) * abs(distance), 8, 8)


@pytest.mark.parametrize("step", [-100.0, 100.0])
def test_slopes_stay_positive_whatever_is_learned(step):
    alibi = LearnedAlibi(4)
    alibi.exponents.data += step
    assert (alibi.bias_at(torch.tensor(1)) < 0).all()
