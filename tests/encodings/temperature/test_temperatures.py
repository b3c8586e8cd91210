"""Log-n and SSMax against the formula, one query and one key at a time."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from transformers import Llama4TextConfig
from transformers.models.llama4.modeling_llama4 import Llama4TextAttention
from transformers.models.ministral3.modeling_ministral3 import get_llama_4_attn_scale
from transformers.models.mistral_large4.modeling_mistral_large4 import MistralLarge4TextSoftmaxScaling

from poslab.attention import AttentionContext, MultiHeadAttention, Visibility, attend
from poslab.encodings import (
    Alibi,
    HeadScale,
    Llama4Temperature,
    LogN,
    NoPosition,
    Positions,
    Rotary,
    SSMax,
    StickBreaking,
    T5Bias,
)
from poslab.models import Decoder
from poslab.testing import check_encoding
from tests.attention.scenarios import HEADS, SCENARIOS, by_definition, inputs
from tests.encodings.agreement import assert_same
from tests.stacked import stacked

causal_scenarios = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
each_route = pytest.mark.parametrize("route", ["flash", "distance", "blockwise", "dense"])


@each_route
@causal_scenarios
@pytest.mark.parametrize("kind", ["log_n", "ssmax", "llama4", "head_scale"])
def test_logits_are_multiplied_by_the_factor_for_the_keys_that_a_query_sees(kind, scenario, route):
    makers = {"log_n": LogN, "llama4": partial(Llama4Temperature, rate=0.7)}
    temperature = makers[kind](4) if kind in makers else (SSMax if kind == "ssmax" else HeadScale)(HEADS)
    rates = [0.1, 0.43, 0.8, 2.0]
    if kind not in makers:
        with torch.no_grad():
            temperature.scales.copy_(torch.tensor(rates))
    q, k, v = inputs(scenario.queries.length, scenario.keys.length)
    actual = attend(q, k, v, NoPosition(), None, scenario.visibility, route, temperature=temperature)

    def factor(head, count):
        return {
            "log_n": math.log(count) / math.log(4),
            "ssmax": rates[head] * math.log(count),
            "llama4": 1 + 0.7 * math.log(1 + count // 4),
            "head_scale": rates[head],
        }[kind]

    expected = by_definition(NoPosition(), scenario, q, k, v, factor)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_ssmax_in_a_decoder_is_the_scaling_of_mistral_large_4(bias):
    theirs, ours = MistralLarge4TextSoftmaxScaling(HEADS), SSMax(HEADS, bias=bias)
    with torch.no_grad():
        theirs.bias.copy_(torch.tensor([0.2, 0.9, 1.0, 1.7]) if bias else torch.zeros(HEADS))
        if bias:
            ours.biases.copy_(theirs.bias)
        for scales in (theirs.scale, ours.scales):
            scales.copy_(torch.tensor([0.1, 0.43, 0.8, 2.0]))
    q, k, v = inputs(20, 20)
    scaled = theirs(q, torch.arange(20)[None], True)
    expected = nn.functional.scaled_dot_product_attention(scaled, k, v, is_causal=True, enable_gqa=True)
    actual = attend(q, k, v, NoPosition(), None, Visibility(), temperature=ours)
    learned = ([ours.biases], [theirs.bias]) if bias else ([], [])
    assert_same(actual, expected, [q, k, v, ours.scales, *learned[0]], [q, k, v, theirs.scale, *learned[1]])


def test_ssmax_begins_as_in_mistral_large_4_by_changing_nothing():
    assert torch.equal(SSMax(HEADS, 0.0, bias=True)(torch.arange(9.0)[None]), torch.ones(1, HEADS, 9, 1))


def test_the_temperature_of_llama_4_is_that_of_its_attention_without_position():
    config = Llama4TextConfig(
        hidden_size=32,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        head_dim=8,
        num_hidden_layers=4,
        floor_scale=5,
        attn_scale=0.7,
        use_qk_norm=False,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    theirs, ours, x = Llama4TextAttention(config, 3).eval(), MultiHeadAttention(32, HEADS, 2, 8), torch.randn(2, 20, 32)
    assert not theirs.use_rope
    with torch.no_grad():
        ours.query.weight.copy_(theirs.q_proj.weight)
        ours.key_value.weight.copy_(torch.cat([theirs.k_proj.weight, theirs.v_proj.weight]))
        ours.output.weight.copy_(theirs.o_proj.weight)
    mask = torch.full((20, 20), torch.finfo(torch.float32).min).triu(1)[None, None]
    context = AttentionContext(NoPosition(), None, Positions.range(20), Visibility(), Llama4Temperature(5, 0.7))
    torch.testing.assert_close(ours(x, context), theirs(x, None, mask)[0], rtol=1e-5, atol=1e-5)


def test_without_the_own_key_it_is_the_temperature_of_ministral_3():
    ids = torch.arange(40)[None]
    expected = get_llama_4_attn_scale(ids, 0.3, 7)
    torch.testing.assert_close(Llama4Temperature(7, 0.3, own_key=False)(ids + 1.0), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("route", ["distance", "blockwise", "dense"])
def test_a_bias_of_the_encoding_is_left_as_it_is(route):
    positions, alibi = Positions.range(6), Alibi(HEADS)
    q, k, v = inputs(6, 6)
    tables = alibi.prepare(positions, positions)
    actual = attend(torch.zeros_like(q), k, v, alibi, tables, Visibility(), route, temperature=SSMax(HEADS, 9.0))
    plain = attend(torch.zeros_like(q), k, v, alibi, tables, Visibility(), route)
    torch.testing.assert_close(actual, plain, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", [NoPosition, Rotary, T5Bias])
@pytest.mark.parametrize(
    "temperature",
    [partial(LogN, training_length=8), partial(SSMax, bias=True), partial(Llama4Temperature, training_length=4)],
)
def test_encodings_keep_the_contract_under_a_temperature(encoding, temperature):
    check_encoding(encoding, temperature=temperature)


def test_each_layer_has_rates_of_its_own():
    decoder = stacked(Decoder, 11, Rotary, 32, 3, HEADS, temperature=SSMax)
    rates = [name for name, _ in decoder.named_parameters() if name.endswith("scales")]
    assert rates == [f"encodings.temperatures.{layer}.scales" for layer in range(3)]


def test_an_encoding_without_a_softmax_is_refused():
    with pytest.raises(ValueError, match=r"^temperature needs.*which StickBreaking replaces$"):
        stacked(Decoder, 11, StickBreaking, 32, 2, HEADS, temperature=SSMax)
