from functools import partial

import pytest
import torch
from transformers.models.deepseek_v3.configuration_deepseek_v3 import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention, DeepseekV3RotaryEmbedding

from poslab.attention import AttentionContext, MultiHeadAttention, Visibility
from poslab.attention.cache import LayerCache
from poslab.encodings import NoPosition, PositionalEncoding, Positions, Rotary, T5Bias
from poslab.encodings.rotary.yarn import yarn


def layer(**arguments) -> MultiHeadAttention:
    torch.manual_seed(0)
    sizes = {"d_model": 32, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8} | arguments
    return MultiHeadAttention(**sizes)


def under(encoding: PositionalEncoding, start: int = 0, causal: bool = True, cache=None) -> AttentionContext:
    """The context of 7 tokens that attend to each other under an encoding."""
    positions = Positions.range(7, start)
    tables = encoding.prepare(positions, positions)
    return AttentionContext(encoding, tables, positions, Visibility(causal), cache=cache)


@pytest.mark.parametrize("crossing", [False, True])
def test_without_position_it_is_the_multi_head_attention_of_pytorch_also_to_a_memory_of_another_length(crossing):
    ours, x, memory = layer(num_kv_heads=4), torch.randn(2, 7, 32), torch.randn(2, 9, 32)
    theirs = torch.nn.MultiheadAttention(32, 4, bias=False, batch_first=True)
    theirs.in_proj_weight.data.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
    theirs.out_proj.weight = ours.output.weight
    if crossing:
        actual, (expected, _) = ours(x, under(NoPosition(), causal=False), memory), theirs(x, memory, memory)
    else:
        future = torch.ones(7, 7, dtype=torch.bool).triu(1)
        actual, (expected, _) = ours(x, under(NoPosition())), theirs(x, x, x, attn_mask=future)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scaling", [None, partial(yarn, training_length=8, factor=16.0)])
def test_with_a_shared_key_and_a_fraction_it_is_the_attention_of_deepseek_without_compression(scaling):
    rope = {"rope_type": "default", "rope_theta": 10_000.0}
    if scaling is not None:
        rope |= {"rope_type": "yarn", "original_max_position_embeddings": 8, "max_position_embeddings": 128}
        rope |= {"factor": 16.0, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}
    sizes = {"qk_rope_head_dim": 4, "qk_nope_head_dim": 6, "v_head_dim": 10, "kv_lora_rank": 32, "q_lora_rank": None}
    heads = {"hidden_size": 32, "num_attention_heads": 3, "num_key_value_heads": 3}
    config = DeepseekV3Config(**sizes, **heads, rope_parameters=rope, attn_implementation="eager")
    theirs, ours = DeepseekV3Attention(config, 0), layer(num_heads=3, num_kv_heads=3, head_dim=10, shared_key=0.4)
    theirs.kv_a_layernorm = torch.nn.Identity()
    with torch.no_grad():
        theirs.kv_a_proj_with_mqa.weight[:32] = torch.eye(32)
        shared, own, values = ours.key_value.weight.split([4, 3 * 6, 3 * 10])
        theirs.kv_a_proj_with_mqa.weight[32:] = shared
        own, values = (x.unflatten(0, (3, -1)) for x in (own, values))
        theirs.kv_b_proj.weight.copy_(torch.cat([own, values], dim=1).flatten(0, 1))
        theirs.q_proj.weight.copy_(ours.query.weight.unflatten(0, (3, -1)).roll(-4, dims=1).flatten(0, 1))
    theirs.o_proj.weight = ours.output.weight
    theirs, ours, x = theirs.double(), ours.double(), torch.randn(2, 7, 32, dtype=torch.float64)
    cos_sin = DeepseekV3RotaryEmbedding(config)(x.float(), torch.arange(7)[None])
    future = torch.full((7, 7), float("-inf"), dtype=torch.float64).triu(1)[None, None]
    expected, _ = theirs(x, tuple(y.double() for y in cos_sin), future)
    rotary = Rotary(10, fraction=0.4, layout="interleaved", scaling=scaling)
    torch.testing.assert_close(ours(x, under(rotary)), expected, rtol=0, atol=1e-6)


def test_the_head_dimension_is_free_of_the_width():
    ours = layer(head_dim=6)
    assert ours.query.weight.shape == (24, 32)
    assert ours.key_value.weight.shape == (24, 32)
    assert ours.output.weight.shape == (32, 24)
    assert ours(torch.randn(2, 7, 32), under(NoPosition())).shape == (2, 7, 32)


def test_qk_norm_makes_attention_blind_to_the_length_of_queries_and_keys():
    ours, x, rotary = layer(qk_norm=True), torch.randn(2, 7, 32), under(Rotary(8))
    before = ours(x, rotary)
    with torch.no_grad():
        ours.query.weight.mul_(3)
        ours.key_value.weight[:16].mul_(5)  # keys only
    torch.testing.assert_close(ours(x, rotary), before, rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("error:Mismatch dtype")
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("make", [lambda: Rotary(8), lambda: T5Bias(4, 8, 32)])
def test_it_runs_under_bf16_autocast(qk_norm, make):
    ours, encoding, x = layer(qk_norm=qk_norm), make(), torch.randn(2, 7, 32)
    exact = ours(x, under(encoding))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = ours(x, under(encoding))
    torch.testing.assert_close(low.float(), exact, rtol=0, atol=0.05)


def test_nothing_in_it_is_random_in_training():
    ours, x = layer().train(), torch.randn(2, 7, 32)
    first, second = (ours(x, under(NoPosition())) for _ in range(2))
    assert torch.equal(first, second)


def test_a_cache_holds_keys_as_they_were_before_rotation():
    ours, rotary, x = layer(), Rotary(8), torch.randn(2, 7, 32)
    caches = []
    for start in (0, 50):
        cache = LayerCache()
        ours(x, under(rotary, start, cache=cache))
        caches.append(cache.append(*torch.zeros(2, 2, 2, 0, 8)))
    assert torch.equal(caches[0][0], caches[1][0])
