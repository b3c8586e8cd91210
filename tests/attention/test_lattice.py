"""The bias of cells on grids, gathered from one number for each offset: the same as pairs, on every route."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.attention import flex_attention as pytorch

from poslab.attention import Visibility, attend, distance_gradients
from poslab.attention.distance import OF_ROWS, DistanceAttention, distance_attention, distance_attention_backward
from poslab.encodings import Alibi, BeitBias, Positions, T5Axes
from poslab.encodings.bias.distance_bias import DistanceBias, OffsetBias
from poslab.encodings.offsets import BiasOfLattice, BiasOfOffsets

HEADS, HEAD_DIM, LENGTH = 2, 8, 17 * 19
SIZES = torch.tensor([[[17, 19]], [[20, 9]]])
GRIDS = {
    "one": Positions.grid(17, 19),
    "several": Positions.grids(SIZES, LENGTH, (20, 19)),
    "registers": Positions.grids(SIZES, LENGTH, (20, 19)).behind(3),
    "clip": Positions.grid(5, 7, 9),
    "line": Positions.grid(LENGTH),
}
BIASES = {"learns": lambda axes: t5_axes(axes), "fixed": lambda axes: Alibi(HEADS, metric="euclidean")}


def t5_axes(axes: int = 2) -> T5Axes:
    torch.manual_seed(0)
    return T5Axes(HEADS, HEAD_DIM, 4, axes, num_buckets=12, max_distance=16)


def beit(axes: int = 2) -> BeitBias:
    torch.manual_seed(0)
    made = BeitBias(HEADS, [24] * axes)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def pairs_of(bias: DistanceBias, queries: Positions, keys: Positions) -> BiasOfOffsets:
    return BiasOfOffsets(queries, keys, bias.bias_of, bias.bias_without_position())


def last(positions: Positions, count: int) -> Positions:
    places = positions.places.take(slice(positions.length - count, None))
    return Positions(positions.ids[..., -count:], positions.stop, positions.contiguous, places=places)


def output_and_gradients(
    bias: DistanceBias, tables: BiasOfLattice | BiasOfOffsets, visibility: Visibility, route: str
) -> list[Tensor]:
    _, num_queries, num_keys, _ = tables.expected_shape
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, HEADS, num_queries, HEAD_DIM), *[(2, HEADS, num_keys, HEAD_DIM)] * 2]
    q, k, v = (torch.randn(shape, generator=generator).requires_grad_() for shape in shapes)
    y = attend(q, k, v, bias, tables, visibility, route)
    sources = [q, k, v, *bias.parameters()]
    return [y, *torch.autograd.grad((y * torch.randn(y.shape, generator=generator)).sum(), sources)]


@pytest.mark.parametrize("grid", GRIDS)
def test_each_pair_has_the_number_of_its_offset(grid: str) -> None:
    positions = GRIDS[grid]
    bias = t5_axes(len(positions.places.axes))
    lattice = bias.bias(bias.prepare(positions, positions))
    assert isinstance(lattice, BiasOfLattice)
    exact = pairs_of(bias, positions, positions)
    for rows, keys in ((slice(None), slice(None)), (slice(5, 140), slice(0, 200))):
        torch.testing.assert_close(lattice.matrix(rows, keys), exact.matrix(rows, keys), rtol=0, atol=0)


@pytest.mark.parametrize("kind", BIASES)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    "rules", [{"causal": False}, {}, {"window": 100}, {"causal": False, "window": 50}, {"padded": True}], ids=str
)
@pytest.mark.parametrize("route", ["auto", "blockwise"])
def test_every_route_gives_what_pairs_give_by_definition(grid: str, rules: dict, kind: str, route: str) -> None:
    positions = GRIDS[grid]
    if "padded" in rules:
        real = torch.arange(positions.length) < torch.tensor([[positions.length], [180]])
        rules = {"causal": False, "real_keys": real}
    bias = BIASES[kind](len(positions.places.axes))
    tables, exact = bias.prepare(positions, positions), pairs_of(bias, positions, positions)
    ours = output_and_gradients(bias, tables, Visibility(**rules), route)
    dense = output_and_gradients(bias, exact, Visibility(**rules), "dense")
    torch.testing.assert_close(ours, dense, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("route", ["distance", "blockwise", "flex"])
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_what_stands_nowhere_has_numbers_of_its_own(route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytorch, "_validate_device", lambda *_: None)  # as below
    bias, positions = beit(), GRIDS["registers"]
    tables, exact = bias.prepare(positions, positions), pairs_of(bias, positions, positions)
    assert isinstance(tables, BiasOfLattice)
    ours = output_and_gradients(bias, tables, Visibility(False), route)
    torch.testing.assert_close(
        ours, output_and_gradients(bias, exact, Visibility(False), "dense"), rtol=1e-4, atol=5e-5
    )


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("grid", "made"), [("one", t5_axes), ("registers", t5_axes), ("registers", beit)])
def test_the_last_cells_may_ask_all(grid: str, causal: bool, made: Callable[[], DistanceBias]) -> None:
    keys, bias = GRIDS[grid], made()
    queries = last(keys, 140)
    tables = bias.prepare(queries, keys)
    assert isinstance(tables, BiasOfLattice)
    ours = output_and_gradients(bias, tables, Visibility(causal), "distance")
    dense = output_and_gradients(bias, pairs_of(bias, queries, keys), Visibility(causal), "dense")
    torch.testing.assert_close(ours, dense, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("bound", ["SHORT", "CACHED"])
def test_what_is_taken_one_by_one_gives_the_same(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bias, positions = t5_axes(), GRIDS["several"]
    tables = bias.prepare(positions, positions)
    together = output_and_gradients(bias, tables, Visibility(False), "distance")
    monkeypatch.setattr(distance_gradients, bound, 1)
    ours = output_and_gradients(bias, bias.prepare(positions, positions), Visibility(False), "distance")
    torch.testing.assert_close(ours, together, rtol=1e-4, atol=5e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("grid", ["one", "registers"])
@pytest.mark.parametrize("causal", [True, False])
def test_flex_gives_what_pairs_give(grid: str, causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytorch, "_validate_device", lambda *_: None)  # its eager form has gradients on a CPU too
    bias, positions = t5_axes(), GRIDS[grid]
    ours = output_and_gradients(bias, bias.prepare(positions, positions), Visibility(causal), "flex")
    dense = output_and_gradients(bias, pairs_of(bias, positions, positions), Visibility(causal), "dense")
    torch.testing.assert_close(ours, dense, rtol=1e-4, atol=5e-5)


def test_gradients_are_the_same_bits_again() -> None:
    bias, positions = t5_axes(), GRIDS["several"]
    first, second = (
        output_and_gradients(bias, bias.prepare(positions, positions), Visibility(False), "distance") for _ in range(2)
    )
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("rows", [1, 2])
def test_the_operators_keep_their_promises(learns: bool, rows: int) -> None:
    positions = Positions.grids(SIZES[:rows] // 3, 30, (6, 6))
    tables = t5_axes().prepare(positions, positions)
    q, k, v = (torch.randn(2, HEADS, 30, HEAD_DIM) for _ in range(3))
    with torch.no_grad():
        inputs = (q, k, v, tables.values.detach())
        own = (None, -30, 30, 0.3, None, None, None, tables.query_places, tables.key_places)
        assert len(own) == 4 + OF_ROWS
        torch.library.opcheck(distance_attention, (*inputs, *own))
        arguments = (q, *inputs, None, *distance_attention(*inputs, *own), learns, *own[1:])
        torch.library.opcheck(distance_attention_backward, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("rows", ["shared", "own"])
def test_gradients_of_each_sample_under_vmap_are_those_of_a_loop(rows: str) -> None:
    positions = Positions.grids(SIZES // 3, 30, (6, 6))
    tables = t5_axes().prepare(positions, positions)
    q, k, v = torch.randn(3, 2, 1, HEADS, 30, HEAD_DIM, generator=torch.Generator().manual_seed(0)).unbind()
    places = [x[:1] if rows == "shared" else x.unsqueeze(1) for x in (tables.query_places, tables.key_places)]
    inputs = (q, k, v, tables.values.detach(), *places)
    in_dims = (0, 0, 0, None, *[None if rows == "shared" else 0] * 2)

    def loss(q: Tensor, k: Tensor, v: Tensor, values: Tensor, *places: Tensor) -> Tensor:
        output, _ = DistanceAttention.apply(q, k, v, values, None, -30, 30, 0.3, None, None, None, *places)
        return output.square().sum()

    of_one = torch.func.grad(loss, argnums=(0, 1, 2, 3))
    together = torch.func.vmap(of_one, in_dims=in_dims)(*inputs)
    for sample in range(2):
        one = [x if dim is None else x[sample] for x, dim in zip(inputs, in_dims, strict=True)]
        torch.testing.assert_close([x[sample] for x in together], of_one(*one))


@pytest.mark.slow
@pytest.mark.parametrize("made", [t5_axes, beit])
def test_it_compiles_without_a_break(made: Callable[[], DistanceBias]) -> None:
    bias, positions = made(), Positions.grids(SIZES // 3, 30, (6, 6)).behind(1)
    q, k, v = (torch.randn(2, HEADS, 31, HEAD_DIM).requires_grad_() for _ in range(3))

    def step(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        tables = bias.prepare(positions, positions)
        return attend(q, k, v, bias, tables, Visibility(False)).square().sum()

    losses = [step(q, k, v), torch.compile(step, fullgraph=True, backend="aot_eager")(q, k, v)]
    gradients = [torch.autograd.grad(loss, [q, k, v, *bias.parameters()]) for loss in losses]
    torch.testing.assert_close(gradients[1], gradients[0])


def test_the_function_is_called_at_offsets_and_not_at_pairs() -> None:
    asked = []

    class Counting(OffsetBias):
        def bias_of(self, offset: Tensor) -> Tensor:
            asked.append(offset[..., 0].numel())
            return offset.float().sum(-1)[None]

    counting, grid = Counting(2), GRIDS["one"]
    counting.prepare(grid, grid).matrix()
    assert asked == [33 * 37]


def test_real_coordinates_few_pairs_and_text_are_pairs() -> None:
    bias, grid = t5_axes(), GRIDS["one"]
    moved = Positions(grid.ids, grid.stop, places=grid.places.at(grid.places.cells * 0.5))
    after = grid.followed_by(grid.continuation(300))  # text far along the diagonal
    for queries, keys in ((moved, moved), (last(grid, 4), grid), (after, after), (Positions.range(5), grid)):
        assert isinstance(bias.prepare(queries, keys), BiasOfOffsets)


def test_places_of_a_wrong_length_are_refused() -> None:
    bias, grid = t5_axes(), GRIDS["one"]
    q = torch.randn(1, HEADS, 10, HEAD_DIM)
    with pytest.raises(ValueError, match=r"^tables must.*for 323 and 323$"):
        attend(q, q, q, bias, bias.prepare(grid, grid), Visibility(False))
