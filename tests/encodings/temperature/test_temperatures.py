"""Log-n and SSMax against the formula, one query and one key at a time."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from transformers.models.mistral_large4.modeling_mistral_large4 import MistralLarge4TextSoftmaxScaling

from poslab.attention import Visibility, attend
from poslab.encodings import Alibi, LogN, NoPosition, Positions, Rotary, SSMax, StickBreaking, T5Bias
from poslab.models import Decoder
from poslab.testing import check_encoding
from tests.attention.scenarios import HEADS, SCENARIOS, by_definition, inputs
from tests.encodings.agreement import assert_same
from tests.stacked import stacked

causal_scenarios = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
each_route = pytest.mark.parametrize("route", ["flash", "distance", "blockwise", "dense"])


@each_route
@causal_scenarios
@pytest.mark.parametrize("kind", ["log_n", "ssmax"])
def test_logits_are_multiplied_by_the_factor_for_the_keys_that_a_query_sees(kind, scenario, route):
    temperature = LogN(8) if kind == "log_n" else SSMax(HEADS)
    rates = [0.1, 0.43, 0.8, 2.0]
    if kind == "ssmax":
        with torch.no_grad():
            temperature.scales.copy_(torch.tensor(rates))
    q, k, v = inputs(scenario.queries.length, scenario.keys.length)
    actual = attend(q, k, v, NoPosition(), None, scenario.visibility, route, temperature=temperature)

    def factor(head, count):
        return math.log(count) * (1 / math.log(8) if kind == "log_n" else rates[head])

    expected = by_definition(NoPosition(), scenario, q, k, v, factor)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def test_ssmax_in_a_decoder_is_the_scaling_of_mistral_large_4():
    theirs, ours = MistralLarge4TextSoftmaxScaling(HEADS), SSMax(HEADS)
    with torch.no_grad():
        theirs.bias.zero_()
        for scales in (theirs.scale, ours.scales):
            scales.copy_(torch.tensor([0.1, 0.43, 0.8, 2.0]))
    q, k, v = inputs(20, 20)
    scaled = theirs(q, torch.arange(20)[None], True)
    expected = nn.functional.scaled_dot_product_attention(scaled, k, v, is_causal=True, enable_gqa=True)
    actual = attend(q, k, v, NoPosition(), None, Visibility(), temperature=ours)
    assert_same(actual, expected, [q, k, v, ours.scales], [q, k, v, theirs.scale])


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
@pytest.mark.parametrize("temperature", [partial(LogN, training_length=8), SSMax])
def test_encodings_keep_the_contract_under_a_temperature(encoding, temperature):
    check_encoding(encoding, temperature=temperature)


def test_each_layer_has_rates_of_its_own():
    decoder = stacked(Decoder, 11, Rotary, 32, 3, HEADS, temperature=SSMax)
    rates = [name for name, _ in decoder.named_parameters() if name.endswith("scales")]
    assert rates == [f"encodings.temperatures.{layer}.scales" for layer in range(3)]


def test_an_encoding_without_a_softmax_is_refused():
    with pytest.raises(ValueError, match=r"^temperature needs a softmax, which StickBreaking replaces$"):
        stacked(Decoder, 11, StickBreaking, 32, 2, HEADS, temperature=SSMax)
