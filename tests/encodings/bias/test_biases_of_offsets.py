"""Claims of every bias that reads several axes, whatever its function."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from poslab.attention import Visibility, attend
from poslab.encodings import (
    Alibi,
    BeitBias,
    DistanceBias,
    KerpleLog,
    KerplePower,
    LearnedAlibi,
    Positions,
    RelativeTable,
    Sandwich,
    SwinV2Bias,
    T5Axes,
)
from tests.encodings.agreement import assert_same, bias_matrix, tensors

HEADS, HEAD_DIM = 2, 8
BIASES = {
    "alibi": partial(Alibi, HEADS, metric="euclidean"),
    "alibi_learned": partial(LearnedAlibi, HEADS, metric="manhattan"),
    "kerple_log": partial(KerpleLog, HEADS, metric="manhattan"),
    "kerple_power": partial(KerplePower, HEADS, metric="chebyshev"),
    "sandwich": partial(Sandwich, HEADS, dim=8, metric="euclidean"),
    "t5_axes": partial(T5Axes, HEADS, HEAD_DIM, 16, num_buckets=8, max_distance=6),
    "relative_table": partial(RelativeTable, HEADS, grid=[3, 5]),
    "beit": partial(BeitBias, HEADS, grid=[3, 5]),
    "swin_v2": partial(SwinV2Bias, HEADS, grid=[3, 5], width=6),
}
SIZES = torch.tensor([[[3, 5]], [[4, 2]], [[1, 7]]])
"""Pictures of several sizes, of which two are larger than the grid of training."""


@pytest.fixture(params=BIASES)
def bias(request: pytest.FixtureRequest) -> DistanceBias:
    torch.manual_seed(0)
    made = BIASES[request.param]()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return made


def at(positions: Positions, coordinates: Tensor) -> Positions:
    return replace(positions, places=positions.places.at(coordinates))


@pytest.mark.parametrize("shape", [(3, 5), (5, 2), (1, 6)])
def test_it_is_its_function_of_each_offset(bias: DistanceBias, shape: tuple[int, int]) -> None:
    if isinstance(bias, RelativeTable):
        shape = (3, min(shape[1], 5))  # on a larger grid it is another function
    positions = Positions.grid(*shape)
    cells = [(y, x) for y in range(shape[0]) for x in range(shape[1])]
    expected = [[bias.bias_of(torch.tensor([y - v, x - u])) for v, u in cells] for y, x in cells]
    ours = bias_matrix(bias, positions, positions)
    stacked = torch.stack([torch.stack(row, dim=-1) for row in expected], dim=-2)
    torch.testing.assert_close(ours, stacked, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shift", [(7, 0), (0, -3), (1_000, 100_000)])
def test_a_shift_along_any_axis_is_not_felt(bias: DistanceBias, shift: tuple[int, int]) -> None:
    positions = Positions.grid(3, 5)
    shifted = at(positions, positions.places.cells + torch.tensor(shift))
    near, far = bias_matrix(bias, positions, positions), bias_matrix(bias, shifted, shifted)
    torch.testing.assert_close(near, far, rtol=0, atol=1e-6)


def test_the_order_in_storage_does_not_matter(bias: DistanceBias) -> None:
    positions = Positions.grid(3, 5)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(1))
    permuted = replace(positions, places=positions.places.take(order))
    expected = bias_matrix(bias, positions, positions)[:, order][:, :, order]
    torch.testing.assert_close(bias_matrix(bias, permuted, permuted), expected, rtol=0, atol=1e-6)


def test_pictures_of_several_sizes_are_each_as_alone(bias: DistanceBias) -> None:
    positions = Positions.grids(SIZES, 15, (4, 7))
    together = bias.bias(bias.prepare(positions, positions)).matrix()
    assert together.shape == (3, HEADS, 15, 15)
    for row, (height, width) in enumerate(SIZES[:, 0].tolist()):
        alone = Positions.grid(height, width)
        count = height * width
        torch.testing.assert_close(together[row, :, :count, :count], bias_matrix(bias, alone, alone), rtol=0, atol=1e-6)


def test_tokens_that_stand_nowhere_have_no_bias_unless_it_is_learned(bias: DistanceBias) -> None:
    positions, grid = Positions.grid(3, 5).behind(2), Positions.grid(3, 5)
    ours = bias_matrix(bias, positions, positions)
    of_query, of_key, of_both = bias.without_position.unbind() if isinstance(bias, BeitBias) else torch.zeros(3, HEADS)
    assert (ours[:, :2, 2:] == of_query.view(-1, 1, 1)).all() and (ours[:, 2:, :2] == of_key.view(-1, 1, 1)).all()
    assert (ours[:, :2, :2] == of_both.view(-1, 1, 1)).all()
    torch.testing.assert_close(ours[:, 2:, 2:], bias_matrix(bias, grid, grid), rtol=0, atol=1e-6)


def test_a_text_has_one_axis(bias: DistanceBias) -> None:
    text = Positions.range(6)
    ours = bias_matrix(bias, text, text)
    for i in range(6):
        for j in range(6):
            torch.testing.assert_close(ours[:, i, j], bias.bias_at(torch.tensor(i - j)), rtol=0, atol=1e-6)


def test_a_token_of_a_text_is_at_the_same_number_on_every_axis(bias: DistanceBias) -> None:
    """As the queries of a caption that looks at a picture."""
    text, grid = Positions.range(4), Positions.grid(3, 5)
    ours = bias_matrix(bias, text, grid)
    for i in range(4):
        expected = bias.bias_of(i - grid.places.cells)
        torch.testing.assert_close(ours[:, i], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rules", [{"causal": False}, {}, {"window": 4}, {"causal": False, "real_keys": None}], ids=str)
@pytest.mark.parametrize("positions", ["one", "several", "registers"])
@pytest.mark.parametrize("route", ["auto", "blockwise"])
def test_every_route_gives_what_the_dense_one_gives(
    bias: DistanceBias, positions: str, rules: dict[str, object], route: str
) -> None:
    made = {
        "one": Positions.grid(3, 5),
        "several": Positions.grids(SIZES, 15, (4, 7)),
        "registers": Positions.grids(SIZES, 15, (4, 7)).behind(2),
    }[positions]
    length = made.length
    if "real_keys" in rules:
        rules = rules | {"real_keys": torch.arange(length) < torch.tensor([[length], [8], [7]])}
    q, k, v = tensors(*[(3, HEADS, length, HEAD_DIM)] * 3)
    ours, dense = (
        attend(q, k, v, bias, bias.prepare(made, made), Visibility(**rules), one) for one in (route, "dense")
    )
    assert_same(ours, dense, [q, k, v, *bias.parameters()])


@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "chebyshev"])
def test_a_metric_is_the_length_of_an_offset(metric: str) -> None:
    positions = Positions.grid(2, 3, 4)
    ours = bias_matrix(Alibi(1, metric=metric), positions, positions)[0]
    cells = positions.places.cells.tolist()
    for i, here in enumerate(cells):
        for j, there in enumerate(cells):
            on_axes = [abs(a - b) for a, b in zip(here, there, strict=True)]
            length = {"euclidean": math.hypot(*on_axes), "manhattan": sum(on_axes), "chebyshev": max(on_axes)}[metric]
            assert float(ours[i, j]) == pytest.approx(-(2**-8) * length, abs=1e-7)


def test_without_a_metric_patches_are_read_in_storage_order() -> None:
    grid, text = Positions.grid(3, 5), Positions.range(15)
    assert not Alibi(2).reads_axes and Alibi(2, metric="euclidean").reads_axes
    assert torch.equal(bias_matrix(Alibi(2), grid, grid), bias_matrix(Alibi(2), text, text))


def test_a_metric_has_no_sides() -> None:
    with pytest.raises(ValueError, match=r"^asymmetry must.*no sides, got 0.5$"):
        Alibi(2, asymmetry=0.5, metric="euclidean", causal=False)


@pytest.mark.parametrize("made", ["t5_axes", "relative_table", "swin_v2"])
def test_places_on_other_axes_are_refused(made: str) -> None:
    clip = Positions.grid(2, 2, 2)
    with pytest.raises(ValueError, match=r"^encoding \w+ is.*3: time, height, width$"):
        BIASES[made]().prepare(clip, clip)
