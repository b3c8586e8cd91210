"""Calls of `attend` whose arguments do not fit: each is refused, or gives what its definition gives, every time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from poslab.attention import Route, Visibility, attend
from poslab.attention.distance import OF_ROWS, distance_attention, distance_attention_backward
from poslab.attention.routes import SERVED_HOOKS
from poslab.encodings import PositionalEncoding, Positions, SSMax, StickBreaking
from tests.encoding_choices import EVERY_ENCODING, encoding, quick_or_slow, small_decoder

BATCH, HEADS, GROUPS, LENGTH, HEAD_DIM, D_MODEL = 2, 4, 2, 12, 8, 32
ROUTES: tuple[Route, ...] = ("auto", "dense", "blockwise", "distance", "flash")


@dataclass(frozen=True)
class Call:
    """The arguments of a call of `attend`, as few as all of its others can be made of."""

    q: Tensor
    k: Tensor
    v: Tensor
    queries: Positions
    keys: Positions
    visibility: Visibility
    state: Tensor | None

    def attended(self, name: str, route: Route) -> Tensor:
        instance = made(name)
        tables = instance.prepare(self.queries, self.keys)
        return attend(self.q, self.k, self.v, instance, tables, self.visibility, route, state_BHSE=self.state)

    def with_rows(self) -> Call:
        """All rows of what has one."""

        def of(x: Tensor | None) -> Tensor | None:
            return x if x is None or x.shape[0] != 1 else x.repeat(BATCH, *[1] * (x.dim() - 1))

        def at(positions: Positions) -> Positions:
            return dataclasses.replace(positions, ids=positions.ids.expand(BATCH, -1), segments=of(positions.segments))

        rules = {rule: of(getattr(self.visibility, rule)) for rule in ("query_segments", "key_segments", "real_keys")}
        return Call(
            *(of(x) for x in (self.q, self.k, self.v)),
            at(self.queries),
            at(self.keys),
            dataclasses.replace(self.visibility, **rules),
            of(self.state),
        )


@cache
def made(name: str) -> Any:
    torch.manual_seed(0)
    return encoding(name).eval()


def call(name: str, batch: int = BATCH, num_queries: int = LENGTH, num_keys: int = LENGTH, **rules: Any) -> Call:
    """A call that is right."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(HEADS, num_queries), (GROUPS, num_keys), (GROUPS, num_keys)]
    q, k, v = (torch.randn(batch, heads, length, HEAD_DIM, generator=generator) for heads, length in shapes)
    queries, keys = Positions.range(num_queries, max(0, num_keys - num_queries)), Positions.range(num_keys)
    x_BSM = torch.randn(batch, num_keys, D_MODEL, generator=generator)
    return Call(q, k, v, queries, keys, Visibility(**rules), made(name).state(x_BSM, keys, None))


Change = Callable[[Call], Call]


def changed(**fields: Callable[[Any], Any]) -> Change:
    """A call with these fields made anew of what they are."""
    return lambda call: dataclasses.replace(call, **{name: make(getattr(call, name)) for name, make in fields.items()})


def of_tables(queries: int, keys: int, rows: int | None = None) -> Change:
    """A call with tables for other positions."""

    def at(length: int) -> Positions:
        positions = Positions.range(length)
        return positions if rows is None else Positions(positions.ids.expand(rows, -1), length)

    return changed(queries=lambda _: at(queries), keys=lambda _: at(keys))


def seen(**rules: Any) -> Change:
    return changed(visibility=lambda _: Visibility(**rules))


def of_segments(query_rows: int, queries: int, key_rows: int, keys: int) -> Change:
    ones = torch.ones(max(query_rows, key_rows), max(queries, keys), dtype=torch.int64)
    return seen(query_segments=ones[:query_rows, :queries], key_segments=ones[:key_rows, :keys])


def with_state(make: Callable[[Tensor], Tensor | None]) -> Change:
    return changed(state=lambda state: None if state is None else make(state))


def first_row(x: Tensor) -> Tensor:
    return x[:1]


def one_less(x: Tensor) -> Tensor:
    return x[:, :, :-1]


def on_meta(x: Any) -> Any:
    if isinstance(x, Positions):
        return dataclasses.replace(x, ids=x.ids.to("meta"))
    return None if x is None else x.to("meta")


def three_heads(x: Tensor) -> Tensor:
    return torch.cat([x, x[:, :1]], dim=1)


SERVED: dict[str, Change] = {
    "nothing": changed(),
    "one row of keys and values": changed(k=first_row, v=first_row),
    "one row of keys": changed(k=first_row),
    "one row of values": changed(v=first_row),
    "one row of queries": changed(q=first_row),
    "one row of real keys": seen(real_keys=torch.arange(LENGTH)[None] > 3),
    "one row of segments": of_segments(1, LENGTH, 1, LENGTH),
    "one row of a state": with_state(first_row),
    "one head of keys": changed(k=lambda x: x[:, :1], v=lambda x: x[:, :1]),
    "transposed queries": changed(q=lambda x: x.mT.contiguous().mT),
    "transposed keys": changed(k=lambda x: x.mT.contiguous().mT),
    "expanded values": changed(v=lambda x: x[..., :1].expand(-1, -1, -1, HEAD_DIM)),
    "every second token": changed(k=lambda x: x.repeat_interleave(2, dim=2)[:, :, ::2]),
    "float64": changed(
        q=Tensor.double, k=Tensor.double, v=Tensor.double, state=lambda x: x if x is None else x.double()
    ),
    "the widest window": seen(window=10**9),
    "a window of one": seen(window=1),
}
"""Odd calls that are served."""

REFUSED: dict[str, Change] = {
    "three rows of queries": changed(q=lambda x: torch.cat([x, x[:1]])),
    "three rows of keys": changed(k=lambda x: torch.cat([x, x[:1]]), v=lambda x: torch.cat([x, x[:1]])),
    "three rows of values": changed(v=lambda x: torch.cat([x, x[:1]])),
    "no row of keys": changed(k=lambda x: x[:0], v=lambda x: x[:0]),
    "three heads of keys": changed(k=three_heads, v=three_heads),
    "three heads of values": changed(v=three_heads),
    "eight heads of keys": changed(k=lambda x: x.repeat(1, 4, 1, 1), v=lambda x: x.repeat(1, 4, 1, 1)),
    "no heads of keys": changed(k=lambda x: x[:, :0], v=lambda x: x[:, :0]),
    "fewer values": changed(v=one_less),
    "fewer keys": changed(k=one_less),
    "fewer keys and values": changed(k=one_less, v=one_less),
    "tables for half of the keys": changed(k=lambda x: torch.cat([x, x], 2), v=lambda x: torch.cat([x, x], 2)),
    "tables for one more query": changed(q=one_less),
    "no channels": changed(q=lambda x: x[..., :0], k=lambda x: x[..., :0], v=lambda x: x[..., :0]),
    "narrower keys": changed(k=lambda x: x[..., :-2]),
    "queries without heads": changed(q=lambda x: x[:, 0]),
    "keys without rows": changed(k=lambda x: x[0]),
    "integers": changed(q=Tensor.long, k=Tensor.long, v=Tensor.long),
    "keys in float64": changed(k=Tensor.double),
    "values in bfloat16": changed(v=Tensor.bfloat16),
    "queries on another device": changed(q=on_meta),
    "keys on another device": changed(k=on_meta),
    "values on another device": changed(v=on_meta),
    "real keys on another device": seen(real_keys=torch.ones(BATCH, LENGTH, dtype=torch.bool, device="meta")),
    "a state on another device": with_state(on_meta),
    "tables for 6 queries": of_tables(6, LENGTH),
    "tables for 6 keys": of_tables(LENGTH, 6),
    "tables for 6 tokens": of_tables(6, 6),
    "tables for 1 token": of_tables(1, 1),
    "tables for 24 tokens": of_tables(24, 24),
    "tables for three rows": of_tables(LENGTH, LENGTH, rows=3),
    "three rows of real keys": seen(real_keys=torch.ones(3, LENGTH, dtype=torch.bool)),
    "fewer real keys": seen(real_keys=torch.ones(BATCH, LENGTH - 1, dtype=torch.bool)),
    "real keys without rows": seen(real_keys=torch.ones(LENGTH, dtype=torch.bool)),
    "real keys in numbers": seen(real_keys=torch.ones(BATCH, LENGTH)),
    "three rows of segments": of_segments(3, LENGTH, 3, LENGTH),
    "fewer segments of queries": of_segments(BATCH, LENGTH - 1, BATCH, LENGTH),
    "fewer segments of keys": of_segments(BATCH, LENGTH, BATCH, LENGTH - 1),
    "no state": with_state(lambda state: None),
    "a shorter state": with_state(one_less),
    "three rows of a state": with_state(lambda x: torch.cat([x, x[:1]])),
}
"""Calls without a meaning."""


def is_read(kind: str, name: str, right: Call) -> bool:
    """Return whether an encoding reads what is wrong: some have no state, and some no tables."""
    if "state" in kind:
        return right.state is not None
    return not kind.startswith("tables") or made(name).prepare(right.queries, right.keys) is not None


def routes(name: str, among: tuple[Route, ...] = ROUTES) -> list[Route]:
    return [route for route in among if route == "auto" or made(name).hooks <= SERVED_HOOKS[route]]


@pytest.mark.slow
@pytest.mark.parametrize("name", quick_or_slow(EVERY_ENCODING))
def test_what_has_one_row_or_an_odd_layout_is_served_as_defined(name):
    for kind, change in SERVED.items():
        odd = change(call(name))
        expected = odd.with_rows().attended(name, "dense")
        assert expected.shape == (BATCH, HEADS, LENGTH, HEAD_DIM)
        for route in routes(name):
            actual = odd.attended(name, route)
            torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5, msg=f"{kind}: not as defined")
            assert torch.equal(odd.attended(name, route), actual), f"{kind}: another result at another call"


@pytest.mark.parametrize("rows", [1, BATCH])
@pytest.mark.parametrize("name", quick_or_slow(EVERY_ENCODING))
def test_rows_of_tables_are_rows_of_the_batch(name, rows):
    odd = of_tables(LENGTH, LENGTH, rows)(call(name))
    if made(name).prepare(odd.queries, odd.keys) is not None:
        one = changed(q=first_row, k=first_row, v=first_row)(with_state(first_row)(odd))
        for some in (odd, one):
            expected = some.with_rows().attended(name, "dense")[: max(rows, len(some.q))]
            torch.testing.assert_close(some.attended(name, "auto"), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", quick_or_slow(EVERY_ENCODING))
def test_what_does_not_fit_is_refused_in_one_sentence(name):
    right = call(name)
    for kind, change in REFUSED.items():
        for route in routes(name, (*ROUTES, "flex")) if is_read(kind, name, right) else ():
            try:
                change(right).attended(name, route)
            except ValueError as error:
                assert "\n" not in str(error), kind
            else:
                raise AssertionError(f"{kind}: nothing was said")


@pytest.mark.parametrize("name", [name for name in EVERY_ENCODING if made(name).hooks & {"bias", "pair_bias"}])
def test_a_bias_for_fewer_heads_is_refused(name):
    twice = changed(q=lambda x: x.repeat(1, 2, 1, 1))(call(name))
    for route in routes(name):
        with pytest.raises(
            ValueError, match=rf"^(bias|encoding) must have one head, or one for each of {2 * HEADS}, got {HEADS}$"
        ):
            twice.attended(name, route)


WRONG_SIZES: dict[str, tuple[str, Change]] = {
    "twice the heads": ("num_heads", changed(q=lambda x: x.repeat(1, 2, 1, 1))),
    "half of the heads": ("num_heads", changed(q=lambda x: x[:, :GROUPS])),
    "one head": ("num_heads", changed(q=lambda x: x[:, :1], k=lambda x: x[:, :1], v=lambda x: x[:, :1])),
    "a key for each query head": (
        "num_kv_heads",
        changed(k=lambda x: x.repeat(1, HEADS // GROUPS, 1, 1), v=lambda x: x.repeat(1, HEADS // GROUPS, 1, 1)),
    ),
    "twice the width": (
        "head_dim",
        changed(q=lambda x: x.repeat(1, 1, 1, 2), k=lambda x: x.repeat(1, 1, 1, 2), v=lambda x: x.repeat(1, 1, 1, 2)),
    ),
    "half of the width": (
        "head_dim",
        changed(**{x: lambda x: x[..., : HEAD_DIM // 2] for x in "qkv"}),
    ),
}
"""Queries and keys of other sizes than an encoding was made for, with the argument of its constructor that says so."""


@pytest.mark.parametrize("name", EVERY_ENCODING)
def test_an_encoding_made_for_other_heads_or_width_is_refused(name):
    for kind, (size, change) in WRONG_SIZES.items():
        if size in made(name).sizes:
            for route in routes(name, (*ROUTES, "flex")):
                with pytest.raises(ValueError, match=r"(heads?|wide), (or one for each of \d+, )?got \d+$"):
                    change(call(name)).attended(name, route)
                    raise AssertionError(f"{kind}: nothing was said")


@pytest.mark.parametrize("of", ["num_heads", "num_kv_heads", "head_dim"])
def test_the_heads_and_width_of_an_encoding_are_those_that_it_was_given(of):
    sizes = {"num_heads": HEADS, "num_kv_heads": GROUPS, "head_dim": HEAD_DIM}
    for name in EVERY_ENCODING:
        assert made(name).sizes.get(of, sizes[of]) == sizes[of]
    assert made("dape").sizes[of] == sizes[of]
    assert of not in made("none").sizes


@pytest.mark.parametrize(
    "ids",
    [
        torch.ones(3, dtype=torch.bool),
        torch.ones(3, dtype=torch.uint8),
        torch.tensor(3),
        torch.ones(1, 2, 3, dtype=torch.int64),
        torch.ones(3, dtype=torch.complex64),
        torch.tensor([0.0, float("nan")]),
        torch.tensor([0.0, float("inf")]),
        torch.tensor([-float("inf"), 0.0], dtype=torch.float64),
    ],
)
def test_positions_that_are_no_finite_numbers_in_rows_are_refused(ids):
    with pytest.raises(ValueError, match=r"^ids must be [^\n]*, got [^\n]*$"):
        Positions(ids, 5)
    places = Positions.grid(1, 2).places
    assert places is not None
    with pytest.raises(ValueError, match=r"^coordinates must be [^\n]*, got [^\n]*$"):
        dataclasses.replace(places, coordinates=ids.unsqueeze(-1) if ids.dim() else ids)


@pytest.mark.parametrize("causal", ["yes", None, 1, torch.tensor(True)])
def test_a_direction_that_is_not_true_or_false_is_refused(causal):
    with pytest.raises(ValueError, match=r"^causal must.*or False, got "):
        Visibility(causal=causal)


@pytest.mark.parametrize("route", ROUTES)
def test_sinks_and_temperatures_of_other_heads_are_refused(route):
    right = call("rotary")
    rotary, tables = made("rotary"), made("rotary").prepare(right.queries, right.keys)
    operands = (right.q, right.k, right.v, rotary, tables, right.visibility, route)
    with pytest.raises(ValueError, match=r"^sinks must.*head of q, got \(3,\)$"):
        attend(*operands, sinks_H=torch.zeros(3))
    with pytest.raises(ValueError, match=r"^temperature must.*each of 4, got 3$"):
        attend(*operands, temperature=SSMax(3))


def test_a_sink_without_a_softmax_is_refused():
    right = call("stick_breaking")
    with pytest.raises(ValueError, match=r"^sinks need.*which StickBreaking replaces$"):
        attend(right.q, right.k, right.v, StickBreaking(), None, right.visibility, sinks_H=torch.zeros(HEADS))


def test_tables_that_were_forgotten_are_refused():
    prepared = [name for name in EVERY_ENCODING if type(made(name)).prepare is not PositionalEncoding.prepare]
    assert {"rotary", "t5"} <= set(prepared)
    for name in prepared:
        right = call(name)
        for route in routes(name):
            with pytest.raises(ValueError, match=r"^tables must.*\w+\.prepare, got None$"):
                attend(right.q, right.k, right.v, made(name), None, right.visibility, route, state_BHSE=right.state)


@pytest.mark.parametrize("name", ["rotary", "xpos"])
def test_heads_that_are_wider_than_the_rotation_are_refused(name):
    right = call(name)
    wider = changed(q=lambda x: torch.cat([x, x[..., :2]], -1), k=lambda x: torch.cat([x, x[..., :2]], -1))(right)
    with pytest.raises(ValueError, match=rf"^queries and keys .* head_dim={HEAD_DIM} .* {HEAD_DIM + 2}$"):
        wider.attended(name, "auto")


@pytest.mark.parametrize("name", quick_or_slow(EVERY_ENCODING))
@pytest.mark.parametrize(("num_queries", "num_keys"), [(0, 0), (0, LENGTH)])
@pytest.mark.parametrize("batch", [0, BATCH])
def test_an_empty_text_has_an_empty_output_and_gradients_of_zero(name, num_queries, num_keys, batch):
    empty = call(name, batch, num_queries, num_keys)
    for route in routes(name):
        leaves = [x.clone().requires_grad_() for x in (empty.q, empty.k, empty.v)]
        y = dataclasses.replace(empty, **dict(zip("qkv", leaves, strict=True))).attended(name, route)
        assert y.shape == (batch, HEADS, num_queries, HEAD_DIM)
        assert all(not gradient.any() for gradient in torch.autograd.grad(y.sum(), leaves))


@pytest.mark.parametrize("name", [name for name in EVERY_ENCODING if not made(name).causal_only])
def test_without_keys_every_query_gets_zero(name):
    encoding_of_both, nothing = encoding(name, causal=False), Positions.range(0)
    if "state" in encoding_of_both.hooks:
        return
    queries = Positions.range(LENGTH)
    q, k = torch.ones(BATCH, HEADS, LENGTH, HEAD_DIM), torch.ones(BATCH, GROUPS, 0, HEAD_DIM)
    tables = encoding_of_both.prepare(queries, nothing)
    assert not attend(q, k, k, encoding_of_both, tables, Visibility(causal=False)).any()


@pytest.mark.parametrize("name", quick_or_slow(EVERY_ENCODING))
def test_a_model_reads_an_empty_text(name):
    model = small_decoder(name)
    logits = model(torch.zeros(2, 0, dtype=torch.int64))
    assert logits.shape == (2, 0, model.vocab_size)
    logits.sum().backward()
    cache = model.new_cache()
    model(torch.zeros(2, 0, dtype=torch.int64), cache=cache)


@pytest.mark.parametrize("window", [0, -1, 2.5, float("nan"), True, "3", 2**63, 10**30])
def test_a_window_that_is_not_a_positive_integer_is_refused(window):
    with pytest.raises(ValueError, match=r"^window must.*or None, got "):
        Visibility(window=window)
    with pytest.raises(ValueError, match=r"^chunk must.*or None, got "):
        Visibility.between(Positions.range(3), Positions.range(3), chunk=window)


def test_segments_of_queries_or_keys_alone_are_refused():
    with pytest.raises(ValueError, match=r"^segments must.*or for neither$"):
        Visibility(query_segments=torch.ones(1, 3))


def test_causal_queries_that_outnumber_their_keys_are_refused():
    with pytest.raises(ValueError, match=r"^k must have.*got 6 keys for 12"):
        call("none", num_queries=12, num_keys=6).attended("none", "auto")


@pytest.mark.parametrize("window", [1, 5, 1_000])
@pytest.mark.parametrize("name", ["none", "alibi", "t5"])
def test_a_window_that_leaves_whole_blocks_of_queries_without_keys_leaves_zeros(name, window):
    """Of 600 queries to 20 keys, in a window to either side, the first blocks see nothing."""
    instance, generator = encoding(name, causal=False), torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, HEADS, n, HEAD_DIM, generator=generator).requires_grad_() for n in (600, 20, 20))
    tables, visibility = instance.prepare(Positions.range(600), Positions.range(20)), Visibility(False, window)
    ours, dense = (attend(q, k, v, instance, tables, visibility, route) for route in ("distance", "dense"))
    results = ((y, *torch.autograd.grad(y.square().sum(), (q, k, v))) for y in (ours, dense))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


WRONG_OPERANDS: dict[str, dict[int, Callable[[Tensor], Any]]] = {
    "keys of one row": {1: first_row},
    "values of one row": {2: first_row},
    "keys and values of one row": {1: first_row, 2: first_row},
    "three rows of queries": {0: lambda x: torch.cat([x, x[:1]])},
    "heads of keys that do not divide": {1: lambda x: x[:, :3], 2: lambda x: x[:, :3]},
    "fewer heads of a bias": {3: first_row},
    "a short bias": {3: lambda x: x[:, :-1]},
    "a long bias": {3: lambda x: torch.cat([x, x], dim=1)},
    "no bias": {3: lambda x: x[:, :0]},
    "a bias of fewer keys than none": {3: lambda x: x[:, :3]},
    "a flat bias": {3: lambda x: x[0]},
    "fewer keys": {1: one_less},
    "fewer keys and values": {1: one_less, 2: one_less},
    "no keys": {1: lambda x: x[:, :, :0], 2: lambda x: x[:, :, :0], 3: lambda x: x[:, : LENGTH - 1]},
    "narrow values": {2: lambda x: x[..., :-2]},
    "no channels": {0: lambda x: x[..., :0], 1: lambda x: x[..., :0], 2: lambda x: x[..., :0]},
    "float64 keys": {1: Tensor.double},
    "a bias in float64": {3: Tensor.double},
    "a bias in bfloat16": {3: Tensor.bfloat16},
    "a sink for one head": {4: lambda _: torch.zeros(1, 1)},
    "sinks in float64": {4: lambda _: torch.zeros(HEADS, 1, dtype=torch.float64)},
    "short segments": {8: lambda _: torch.ones(BATCH, 3, dtype=torch.int64), 9: lambda _: torch.ones(BATCH, LENGTH)},
    "three rows of real keys": {10: lambda _: torch.ones(3, LENGTH, dtype=torch.bool)},
    "places of queries alone": {11: lambda _: torch.ones(1, LENGTH, dtype=torch.int64)},
    "short places": {place: lambda _: torch.ones(1, LENGTH - 1, dtype=torch.int64) for place in (11, 12)},
    "places that are no integers": {place: lambda _: torch.ones(1, LENGTH) for place in (11, 12)},
    "short real keys": {10: lambda _: torch.ones(BATCH, LENGTH - 1, dtype=torch.bool)},
}


def operands() -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, BATCH, HEADS, LENGTH, HEAD_DIM, generator=generator).unbind()
    return [q, k, v, torch.randn(HEADS, 2 * LENGTH - 1, generator=generator), None, 0, LENGTH, 0.3, *[None] * OF_ROWS]


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("kind", WRONG_OPERANDS)
def test_the_operators_themselves_refuse_sizes_that_do_not_fit(kind, device):
    """The fake kernels too, so that a compiled model says it before it runs."""
    inputs = operands()
    output, log_sum = distance_attention(*inputs)
    for place, make in WRONG_OPERANDS[kind].items():
        inputs[place] = make(inputs[place])
    inputs = [x.to(device) if isinstance(x, Tensor) else x for x in inputs]
    output, log_sum = output.to(device), log_sum.to(device)
    with pytest.raises(ValueError, match=r"must"):
        distance_attention(*inputs)
    with pytest.raises(ValueError, match=r"must"):
        distance_attention_backward(output, *inputs[:5], output, log_sum, True, *inputs[5:])


@pytest.mark.parametrize("place", ["gradient", "output", "log_sum"])
def test_the_backward_operator_refuses_results_of_other_sizes(place):
    inputs = operands()
    output, log_sum = distance_attention(*inputs)
    kept = {"gradient": output, "output": output, "log_sum": log_sum}
    kept[place] = kept[place][:, :, :-1]
    with pytest.raises(ValueError, match=r"must be as q"):
        distance_attention_backward(kept["gradient"], *inputs[:5], kept["output"], kept["log_sum"], True, *inputs[5:])


@pytest.mark.parametrize("nearest", [-(2**40), -LENGTH, 0, LENGTH, 2**40])
@pytest.mark.parametrize("furthest", [-(2**40), -1, 0, LENGTH, 2**40])
def test_the_operator_takes_any_range_of_distances(nearest, furthest):
    q, k, v, bias, *_ = operands()
    output, _ = distance_attention(q, k, v, bias, None, nearest, furthest, 0.3)
    place = torch.arange(LENGTH)
    distance = place.unsqueeze(-1) - place
    hidden = (distance < nearest) | (distance > furthest)
    logits = q @ k.mT * 0.3 + bias[:, distance + LENGTH - 1]
    expected = logits.masked_fill(hidden, -torch.inf).softmax(-1).nan_to_num() @ v
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
