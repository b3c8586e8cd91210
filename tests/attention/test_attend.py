import pytest
import torch
from torch import Tensor
from torch.nn import functional

from poslab.attention import Visibility, attend, choose_route
from poslab.encodings import NoPosition, Positions, Rotary
from tests.attention.scenarios import (
    HEAD_DIM,
    HEADS,
    SCENARIOS,
    Scenario,
    assert_as_dense,
    attended,
    by_definition,
    inputs,
    output_and_gradients,
)
from tests.encoding_choices import BIASED, ENCODINGS, RELATIVE, encoding, stack
from tests.encodings.examples import TurningAndDiscounting

each_encoding = pytest.mark.parametrize("name", ENCODINGS)
each_scenario = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))


@each_encoding
@each_scenario
def test_the_dense_route_is_attention_by_definition(name, scenario):
    instance = encoding(name, scenario.visibility.causal)
    q, k, v = inputs(scenario.queries.length, scenario.keys.length)
    actual = attended(instance, scenario, q, k, v, "dense")
    torch.testing.assert_close(actual, by_definition(instance, scenario, q, k, v), rtol=0, atol=1e-5)


@each_encoding
@each_scenario
def test_every_exact_route_gives_the_output_and_gradients_of_the_dense_one(name, scenario):
    instance = encoding(name, scenario.visibility.causal)
    exact = output_and_gradients(instance, scenario, "dense")
    assert all(x is None or x.isfinite().all() for x in exact)
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
    with pytest.raises(ValueError, match=r"^attention must.*cells of a grid$"):
        attended(alibi, scenario, *inputs(3, 3), "distance")
    assert torch.equal(attended(alibi, scenario, *inputs(3, 3)), attended(alibi, scenario, *inputs(3, 3), "blockwise"))


def test_a_subclass_with_one_more_hook_is_served_by_the_route_for_all_of_them():
    instance = TurningAndDiscounting(HEAD_DIM, HEADS)
    assert choose_route(instance) == "distance"
    for scenario in SCENARIOS.values():
        assert_as_dense(instance, scenario)


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
def test_attention_feels_a_stretch_of_all_positions(name):
    """The counterpart of not feeling a shift, which an encoding that does nothing does not either."""
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

    assert_as_dense(Alibi(HEADS), SCENARIOS["causal"])


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
    with pytest.raises(ValueError, match=rf"^attention must not be flash, .* {type(instance).__name__}$"):
        choose_route(instance, "flash")


def test_a_route_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"^attention must.*dense, got flsh$"):
        choose_route(NoPosition(), "flsh")
