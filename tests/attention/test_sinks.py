"""Attention sinks against gpt-oss, x-transformers and a double loop, on every route."""

from functools import partial
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward
from x_transformers.attend import Attend

from poslab.attention import Visibility, attend
from poslab.encodings import (
    Alibi,
    Forgetting,
    LayerPattern,
    LayerSpec,
    NoPosition,
    Positions,
    Rotary,
    StackShape,
    StickBreaking,
    T5Bias,
)
from poslab.evaluation.attention.maps import attention_rows
from poslab.models import Decoder
from tests.attention.scenarios import GROUPS, HEADS, SCENARIOS, by_definition, inputs
from tests.encodings.agreement import assert_same
from tests.stacked import stacked

SHAPE = StackShape(d_model=32, num_layers=4, num_heads=4, num_kv_heads=2, head_dim=8)


def some_sinks(dtype=torch.float32):
    return torch.tensor([-3.0, 0.0, 0.7, 4.0], dtype=dtype).requires_grad_()


@pytest.mark.parametrize("route", ["auto", "flash", "distance", "blockwise", "dense"])
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_a_sink_joins_the_softmax_of_each_query_and_has_no_value(scenario, route):
    q, k, v = inputs(scenario.queries.length, scenario.keys.length)
    sinks = some_sinks()
    actual = attend(q, k, v, NoPosition(), None, scenario.visibility, route, sinks_H=sinks)
    expected = by_definition(NoPosition(), scenario, q, k, v, sinks=sinks.tolist())
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [12, 300])
@pytest.mark.parametrize("route", ["auto", "blockwise", "dense"])
@pytest.mark.parametrize("window", [None, 5])
def test_outputs_and_gradients_are_those_of_gpt_oss(window, route, length):
    q, k, v = inputs(length, length, dtype=torch.float64)
    module = SimpleNamespace(num_key_value_groups=HEADS // GROUPS, training=False, sinks=some_sinks(torch.float64))
    distance = torch.arange(length)[:, None] - torch.arange(length)
    hidden = (distance < 0) | (distance >= (window or length))
    mask = torch.zeros(length, length, dtype=torch.float64).masked_fill(hidden, torch.finfo(torch.float64).min)
    expected = eager_attention_forward(module, q, k, v, mask[None, None], scaling=8**-0.5)[0].transpose(1, 2)
    sinks = some_sinks(torch.float64)
    actual = attend(q, k, v, NoPosition(), None, Visibility(window=window), route, sinks_H=sinks)
    assert_same(actual, expected, [q, k, v, sinks], [q, k, v, module.sinks], tolerance=1e-9)


def test_outputs_and_gradients_are_those_of_x_transformers():
    theirs = Attend(causal=True, heads=HEADS, head_learned_sink=True)
    q, k, v = inputs(20, 20)
    sinks = some_sinks()
    with torch.no_grad():
        theirs.head_attn_sink.copy_(sinks)
    expected = theirs(q, *(x.repeat_interleave(HEADS // GROUPS, dim=1) for x in (k, v)))[0]
    actual = attend(q, k, v, NoPosition(), None, Visibility(), sinks_H=sinks)
    assert_same(actual, expected, [q, k, v, sinks], [q, k, v, theirs.head_attn_sink])


@pytest.mark.parametrize("make", [Alibi, T5Bias, Rotary])
def test_under_a_bias_or_a_rotation_the_routes_agree(make):
    encoding, positions = SHAPE.fill(make), Positions.range(300)
    results = []
    for route in ("auto", "dense"):
        q, k, v = inputs(300, 300)
        sinks = some_sinks()
        tables = encoding.prepare(positions, positions)
        y = attend(q, k, v, encoding, tables, Visibility(window=90), route, sinks_H=sinks)
        learned = [q, k, v, sinks, *encoding.parameters()]
        results.append([y, *torch.autograd.grad(y.square().sum(), learned)])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_flex_scales_what_it_computes_by_the_share_of_the_keys():
    q, k, v = (x.detach() for x in inputs(40, 40, width=16))
    run = partial(attend, q, k, v, NoPosition(), None, Visibility(window=9), sinks_H=some_sinks().detach())
    torch.testing.assert_close(run("flex"), run("dense"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [None, 5])
def test_a_mask_of_sdpa_has_one_more_key(window):
    """As on a GPU where FlexAttention has no kernel."""
    with_sink = import_module("poslab.attention.attend")._with_sink  # the package has a function of that name
    q, k, v = inputs(3, 12)
    visibility, sinks = Visibility(window=window), some_sinks()
    mask = visibility.mask(3, 12, q.device)
    keys, values, mask = with_sink(q, k, v, mask, sinks)
    actual = nn.functional.scaled_dot_product_attention(q, keys, values, mask, enable_gqa=True)
    expected = attend(q, k, v, NoPosition(), None, visibility, "dense", sinks_H=sinks)
    assert_same(actual, expected, [q, k, v, sinks], [q, k, v, sinks])


def test_gradients_of_each_sample_under_vmap_are_those_of_a_loop():
    q, k, v = (x.detach() for x in inputs(12, 12))
    sinks = some_sinks().detach()

    def loss(q, k, v, sinks):
        return attend(q[None], k[None], v[None], NoPosition(), None, Visibility(), sinks_H=sinks).square().sum()

    of_one = torch.func.grad(loss, argnums=(0, 1, 2, 3))
    together = torch.func.vmap(of_one, in_dims=(0, 0, 0, None))(q, k, v, sinks)
    for sample in range(len(q)):
        expected = of_one(q[sample], k[sample], v[sample], sinks)
        torch.testing.assert_close([x[sample] for x in together], list(expected))


def sinking(sinks="all", encoding=Rotary, num_layers=2):
    torch.manual_seed(0)
    decoder = stacked(Decoder, 11, encoding, 32, num_layers, HEADS, sinks=sinks).eval()
    with torch.no_grad():
        for sink in decoder.encodings.sinks.values():
            sink.normal_()
    return decoder


def test_a_decoder_with_sinks_reads_with_a_cache_what_it_reads_at_once():
    pattern = LayerPattern([LayerSpec(Rotary, window=4), NoPosition])
    decoder, tokens = sinking(encoding=pattern), torch.arange(30)[None] % 11
    cache = decoder.new_cache()
    with torch.no_grad():
        in_parts = [decoder(part, cache=cache) for part in tokens.split([7, 1, 1, 21], dim=1)]
        torch.testing.assert_close(torch.cat(in_parts, dim=1), decoder(tokens), rtol=1e-4, atol=1e-5)


def test_sinks_learn_and_equal_weights_stay_equal():
    with_sinks, without = sinking(), sinking(None)
    with_sinks(torch.arange(30)[None] % 11).square().sum().backward()
    assert all(sink.grad.abs().min() > 0 for sink in with_sinks.encodings.sinks.values())
    named = dict(with_sinks.named_parameters())
    assert all(torch.equal(weight, named[name]) for name, weight in without.named_parameters())
    assert {*named} - {name for name, _ in without.named_parameters()} == {"encodings.sinks.0", "encodings.sinks.1"}


def test_attention_weights_of_evaluation_lack_the_weight_of_the_sink():
    decoder, tokens = sinking(), torch.arange(30)[None] % 11
    (first, *_) = attention_rows(decoder, lambda model: model(tokens))
    (first_without, *_) = attention_rows(sinking(None), lambda model: model(tokens))
    assert (first.weights.sum(-1) < 1).all()
    torch.testing.assert_close(first_without.weights.sum(-1), torch.ones(1, HEADS, 30))


@pytest.mark.parametrize(
    ("pattern", "window", "expected"),
    [
        (LayerPattern([LayerSpec(Rotary, window=4), NoPosition]), None, ["0", "2"]),
        (LayerPattern([Rotary, LayerSpec(NoPosition, chunk=4)]), None, ["1", "3"]),
        (LayerPattern([Rotary, NoPosition]), None, []),
        (LayerPattern([Rotary, NoPosition]), 7, ["0", "1", "2", "3"]),
    ],
)
def test_layers_with_windows_may_have_sinks_alone(pattern, window, expected):
    decoder = stacked(Decoder, 11, pattern, 32, 4, HEADS, sinks="windows", window=window)
    assert list(decoder.encodings.sinks) == expected


def test_sinks_need_a_softmax():
    with pytest.raises(ValueError, match=r"^sinks need.*which StickBreaking replaces$"):
        stacked(Decoder, 11, StickBreaking, 32, 4, HEADS, sinks="all")
    assert len(stacked(Decoder, 11, Forgetting, 32, 4, HEADS, sinks="all").encodings.sinks) == 4
    with pytest.raises(ValueError, match=r"^sinks must be .*, got 'none'$"):
        stacked(Decoder, 11, Rotary, 32, 4, HEADS, sinks="none")


@pytest.mark.slow
def test_a_compiled_decoder_with_sinks_is_the_same():
    pattern = LayerPattern([LayerSpec(Rotary, window=4), Alibi, LayerSpec(NoPosition, chunk=5)], order=[0, 1, 0, 2])
    decoder, tokens = sinking(encoding=pattern, num_layers=4), torch.arange(30)[None] % 11
    compiled = torch.compile(decoder, backend="aot_eager", fullgraph=True)
    for one in (decoder, compiled):
        one(tokens).square().sum().backward()
    torch.testing.assert_close(compiled(tokens), decoder(tokens), rtol=1e-4, atol=1e-5)
