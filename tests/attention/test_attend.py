import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from poslab.attention import Visibility, attend, choose_route
from poslab.encodings import DistanceBias, NoPosition, PositionalEncoding, Positions, Rotary
from tests.attention.scenarios import BATCH, SCENARIOS, Scenario
from tests.encoding_choices import BIASED, ENCODINGS, RELATIVE, encoding, stack
from tests.encodings.examples import TurningAndDiscounting

HEADS, GROUPS, HEAD_DIM = 4, 2, 8

each_encoding = pytest.mark.parametrize("name", ENCODINGS)
each_scenario = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))


def inputs(num_queries: int, num_keys: int, groups: int = GROUPS, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Queries, keys and values that take gradients."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(HEADS, num_queries), (groups, num_keys), (groups, num_keys)]
    made = [torch.randn(BATCH, heads, length, HEAD_DIM, generator=generator) for heads, length in shapes]
    return [x.to(dtype).requires_grad_() for x in made]


def attended(instance: PositionalEncoding, scenario: Scenario, q: Tensor, k: Tensor, v: Tensor, route="auto") -> Tensor:
    tables = instance.prepare(scenario.queries, scenario.keys)
    return attend(q, k, v, instance, tables, scenario.visibility, route)


def output_and_gradients(instance: PositionalEncoding, scenario: Scenario, route="auto") -> list[Tensor]:
    q, k, v = inputs(scenario.queries.length, scenario.keys.length)
    y = attended(instance, scenario, q, k, v, route)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    sources = [q, k, v, *instance.parameters()]
    gradients = torch.autograd.grad((y * weight).sum(), sources, allow_unused=True)
    return [y, *(torch.zeros(()) if gradient is None else gradient for gradient in gradients)]


def by_definition(instance: PositionalEncoding, scenario: Scenario, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention one query and one key at a time, in float64; nothing where nothing is seen."""
    tables = instance.prepare(scenario.queries, scenario.keys)
    q, k = instance.rotate_query(q, tables).double(), instance.rotate_key(k, tables).double()
    query_ids, key_ids = (positions.ids.expand(BATCH, -1) for positions in (scenario.queries, scenario.keys))
    visible = scenario.visible()
    y = torch.zeros(q.shape, dtype=torch.float64)
    for b in range(BATCH):
        for i in range(q.shape[2]):
            seen = [j for j in range(k.shape[2]) if visible[b, i, j]]
            for h in range(HEADS if seen else 0):
                group = h * k.shape[1] // HEADS
                logits = [q[b, h, i] @ k[b, group, j] / math.sqrt(HEAD_DIM) for j in seen]
                if isinstance(instance, DistanceBias):
                    bias = instance.bias_at(query_ids[b, i] - key_ids[b, seen])[h].double()
                    logits = [logit + bias[n] for n, logit in enumerate(logits)]
                weights = torch.stack(logits).softmax(0)
                y[b, h, i] = sum(weight * v[b, group, j].double() for weight, j in zip(weights, seen, strict=True))
    return y.float()


@each_encoding
@each_scenario
def test_the_dense_route_is_attention_by_definition(name, scenario):
    instance = encoding(name, scenario.visibility.causal)
    with torch.no_grad():
        q, k, v = inputs(scenario.queries.length, scenario.keys.length)
        actual = attended(instance, scenario, q, k, v, "dense")
        torch.testing.assert_close(actual, by_definition(instance, scenario, q, k, v), rtol=0, atol=1e-5)


@each_encoding
@each_scenario
def test_every_exact_route_gives_the_output_and_gradients_of_the_dense_one(name, scenario):
    instance = encoding(name, scenario.visibility.causal)
    exact = output_and_gradients(instance, scenario, "dense")
    assert all(x.isfinite().all() for x in exact)
    routes = ["auto", "blockwise"]
    if name not in BIASED:
        routes.append("flash")
    if name not in BIASED or scenario.queries.contiguous:
        routes.append("distance")
    for route in routes:
        torch.testing.assert_close(output_and_gradients(instance, scenario, route), exact, rtol=1e-4, atol=1e-5)


def test_a_bias_of_positions_that_are_not_contiguous_is_refused_by_the_distance_route_alone():
    alibi, scattered = encoding("alibi"), Positions(torch.tensor([0, 3, 4]), 5)
    scenario = Scenario(scattered, scattered, Visibility(), lambda b, i, j: j <= i)
    with pytest.raises(ValueError, match=r"^attention must not be distance where positions are not contiguous$"):
        attended(alibi, scenario, *inputs(3, 3), "distance")
    assert torch.equal(attended(alibi, scenario, *inputs(3, 3)), attended(alibi, scenario, *inputs(3, 3), "blockwise"))


def test_a_subclass_with_one_more_hook_is_served_by_the_route_for_all_of_them():
    instance = TurningAndDiscounting(HEAD_DIM, HEADS)
    assert choose_route(instance) == "distance"
    for scenario in SCENARIOS.values():
        exact = output_and_gradients(instance, scenario, "dense")
        torch.testing.assert_close(output_and_gradients(instance, scenario), exact, rtol=1e-4, atol=1e-5)


def test_without_position_attention_is_the_plain_softmax():
    q, k, v = inputs(12, 12, groups=HEADS)
    future = torch.ones(12, 12, dtype=torch.bool).triu(1)
    logits = (q @ k.mT / math.sqrt(HEAD_DIM)).masked_fill(future, -torch.inf)
    actual = attended(NoPosition(), SCENARIOS["causal"], q, k, v)
    torch.testing.assert_close(actual, logits.softmax(-1) @ v, rtol=0, atol=1e-5)


@each_encoding
@pytest.mark.parametrize("route", ["auto", "dense"])
def test_grouped_heads_are_repeated_heads(name, route):
    """Query head h is served by key-value head h * G / H; keys turn before they are repeated, which is the same."""
    instance, scenario = encoding(name), SCENARIOS["left-padded"]
    q, k, v = inputs(12, 12)
    repeated = [x.repeat_interleave(HEADS // GROUPS, dim=1) for x in (k, v)]
    actual, expected = attended(instance, scenario, q, k, v, route), attended(instance, scenario, q, *repeated, route)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


@each_encoding
@pytest.mark.parametrize("route", ["auto", "dense"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [12, 600])
def test_a_query_that_sees_nothing_gives_zero_and_no_nan_in_any_gradient(name, route, dtype, length):
    """At 600 whole blocks of the kernel see nothing, at 12 some rows of its only block."""
    instance = encoding(name)
    real = torch.arange(length) >= torch.tensor([[length * 9 // 10], [length]])  # the second row is all padding
    positions = Positions.padded(real)
    q, k, v = inputs(length, length, dtype=dtype)
    y = attend(q, k, v, instance, instance.prepare(positions, positions), Visibility(real_keys=real), route)
    y.float().square().sum().backward()
    blind = ~real[:, None, :, None].expand_as(y)
    assert (y[blind] == 0).all()
    assert (y[~blind] != 0).any()
    learned = [p.grad for p in instance.parameters() if p.grad is not None]
    for gradient in [q.grad, k.grad, v.grad, *learned]:
        assert gradient.isfinite().all()
    assert (q.grad[blind] == 0).all()


@pytest.mark.parametrize("name", RELATIVE)
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("shift", [1_000, 100_000])
def test_attention_under_a_relative_encoding_does_not_feel_a_shift_of_all_positions(name, contiguous, shift):
    instance = encoding(name)

    def at(start: int) -> Tensor:
        positions = Positions(torch.arange(12) + start, start + 12, contiguous)
        return attend(*inputs(12, 12), instance, instance.prepare(positions, positions), Visibility())

    # The angles of rotary are exact to half a unit in the last place of shift, in radians.
    angle_error = shift * 2.0**-24 if {"rotate_query"} <= instance.hooks else 0
    torch.testing.assert_close(at(shift), at(0), rtol=0, atol=1e-6 + 4 * angle_error)


@pytest.mark.parametrize("name", RELATIVE)
def test_attention_feels_a_stretch_of_all_positions(name):
    """The counterpart of the claim above, which an encoding that does nothing passes too: no position is just that."""
    instance = encoding(name)

    def stretched(factor: int) -> Tensor:
        positions = Positions(torch.arange(12) * factor, 12 * factor)
        return attend(*inputs(12, 12), instance, instance.prepare(positions, positions), Visibility())

    assert ((stretched(1) - stretched(5)).abs().max() > 0.01) == bool(instance.hooks)


@each_encoding
def test_in_bf16_autocast_the_routes_agree_with_float32(name):
    instance, scenario = encoding(name), SCENARIOS["left-padded"]
    q, k, v = inputs(12, 12)
    exact = attended(instance, scenario, q, k, v)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for route in ("auto", "dense"):
            low = attended(instance, scenario, *(x.bfloat16() for x in (q, k, v)), route)
            assert low.dtype == torch.bfloat16
            torch.testing.assert_close(low.float(), exact, rtol=0, atol=0.05)


def test_alibi_in_bfloat16_stays_exact_at_length_4096():
    """As -slope * (i - j), rounding errs by little; as slope * j it would err by 2 in the output."""
    instance, positions = encoding("alibi", num_heads=2), Positions.range(4_096)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 4_096, HEAD_DIM, generator=generator).bfloat16() for _ in range(3))
    q = q[:, :, -8:]
    queries = Positions.range(8, 4_088)
    tables = instance.prepare(queries, positions)
    low = attend(q, k, v, instance, tables, Visibility())
    exact = attend(q.float(), k.float(), v.float(), instance, tables, Visibility(), "dense")
    torch.testing.assert_close(low.float(), exact, rtol=0, atol=0.02)


@pytest.mark.parametrize("query_width", [4, 12])
def test_queries_may_be_wider_or_narrower_than_values(query_width):
    class Alibi(type(encoding("alibi"))):
        def rotate_query(self, q_BHTD, tables):
            return functional.pad(q_BHTD, (0, query_width - HEAD_DIM), value=0.5)

        def rotate_key(self, k_BHSD, tables):
            return functional.pad(k_BHSD, (0, query_width - HEAD_DIM), value=0.5)

    instance, scenario = Alibi(HEADS), SCENARIOS["causal"]
    exact = output_and_gradients(instance, scenario, "dense")
    torch.testing.assert_close(output_and_gradients(instance, scenario), exact, rtol=1e-4, atol=1e-5)


def test_the_cheapest_exact_route_is_taken():
    for name in ENCODINGS:
        assert choose_route(encoding(name)) == ("distance" if name in BIASED else "flash")


def test_is_causal_is_never_asked_for_when_there_are_more_keys_than_queries(monkeypatch):
    asked = []
    original = functional.scaled_dot_product_attention

    def spy(*arguments, **named):
        asked.append(named.get("is_causal", False))
        return original(*arguments, **named)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", spy)
    for scenario in ("causal", "three queries after a cache"):
        queries, keys = SCENARIOS[scenario].queries.length, SCENARIOS[scenario].keys.length
        attended(Rotary(HEAD_DIM), SCENARIOS[scenario], *inputs(queries, keys))
    assert asked == [True]


def test_a_window_makes_no_mask_of_queries_and_keys(monkeypatch):
    monkeypatch.setattr(Visibility, "mask", None)
    q, k, v = (torch.randn(1, HEADS, 2_000, HEAD_DIM) for _ in range(3))
    attend(q, k, v, NoPosition(), None, Visibility(window=100))


@pytest.mark.parametrize("name", BIASED)
def test_a_forced_route_that_would_lose_the_bias_is_refused(name):
    instance = stack(name).layer(0)
    with pytest.raises(ValueError, match=rf"^attention must not be flash, .* bias of {type(instance).__name__}$"):
        choose_route(instance, "flash")


def test_a_route_that_does_not_exist_is_refused():
    with pytest.raises(
        ValueError, match=r"^attention must be one of auto, flash, distance, flex, blockwise, dense, got flsh$"
    ):
        choose_route(NoPosition(), "flsh")
