import pytest
import torch
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention
from x_transformers.x_transformers import RelativePositionBias

from poslab.encodings import Positions, T5Bias
from poslab.encodings.bias.t5 import distance_buckets
from tests.encodings.agreement import assert_bias, bias_matrix

BUCKETS_AND_DISTANCES = [(2, 4), (4, 8), (8, 16), (16, 64), (32, 128), (32, 2_048), (64, 128), (128, 1_000)]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), BUCKETS_AND_DISTANCES)
def test_buckets_are_those_of_t5_and_x_transformers(num_buckets, max_distance, causal):
    if not causal and num_buckets == 2:
        num_buckets, max_distance = 12, 100
    distance = torch.arange(-5_000, 5_001)
    ours = distance_buckets(distance, causal, num_buckets, max_distance)
    t5 = T5Attention._relative_position_bucket(-distance, not causal, num_buckets, max_distance)
    x = RelativePositionBias._relative_position_bucket(-distance, causal, num_buckets, max_distance)
    assert torch.equal(ours, t5)
    assert torch.equal(ours, x)


def test_buckets_of_the_paper_have_the_documented_edges():
    buckets = distance_buckets(torch.tensor([-3, 0, 15, 16, 18, 19, 112, 113, 10**6]), True, 32, 128)
    assert buckets.tolist() == [0, 0, 15, 16, 16, 17, 30, 31, 31]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("num_queries", [1, 7, 200])
def test_bias_is_that_of_t5_times_the_root_of_the_head_dimension(causal, num_queries):
    """T5 has logits q . k + table; ours are q . k / sqrt(D) + sqrt(D) table: the same family at the usual scale."""
    config = T5Config(num_heads=6, d_kv=16, d_model=96, is_decoder=causal)
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    ours = T5Bias(num_heads=6, head_dim=16, d_model=96, causal=causal)
    ours.table.data.copy_(theirs.relative_attention_bias.weight)
    expected = 4 * theirs.compute_bias(num_queries, 200, past_seen_tokens=200 - num_queries)[0]
    actual = bias_matrix(ours, Positions.range(num_queries, 200 - num_queries), Positions.range(200))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_bias_is_that_of_x_transformers_which_scales_its_table_too():
    theirs = RelativePositionBias(scale=16**0.5, causal=True, heads=6)
    ours = T5Bias(num_heads=6, head_dim=16, d_model=96)
    ours.table.data.copy_(theirs.relative_attention_bias.weight)
    actual = bias_matrix(ours, Positions.range(50, 150), Positions.range(200))
    torch.testing.assert_close(actual, theirs(50, 200), rtol=1e-5, atol=1e-5)


def test_the_gradient_of_a_bucket_is_the_sum_over_its_distances():
    t5 = T5Bias(num_heads=3, head_dim=4, d_model=8, num_buckets=4, max_distance=8)

    def formula(distance):
        return 2.0 * t5.table[T5Attention._relative_position_bucket(torch.tensor(-distance), False, 4, 8)]

    assert_bias(t5, formula, 12, 12)
