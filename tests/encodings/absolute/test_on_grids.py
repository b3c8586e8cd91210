"""Claims of every encoding that adds vectors of places on several axes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from poslab.encodings import FourierFeatures, LearnedAxes, LearnedGrid, PositionalEncoding, Positions, SinusoidalGrid

WIDTH = 12
ADDED = {
    "sinusoidal_grid": partial(SinusoidalGrid, WIDTH, base=50.0),
    "fourier_features": partial(FourierFeatures, WIDTH, [3, 5], 4),
    **{
        f"{made.__name__} {kind}": partial(made, WIDTH, [3, 5], kind)
        for made in (LearnedGrid, LearnedAxes)
        for kind in ("bilinear", "bicubic", "none")
    },
}
SIZES = torch.tensor([[[3, 5]], [[2, 2]], [[1, 4]]])


@pytest.fixture(params=ADDED)
def encoding(request: pytest.FixtureRequest) -> PositionalEncoding:
    torch.manual_seed(0)
    return ADDED[request.param]()


def added(encoding: PositionalEncoding, positions: Positions) -> Tensor:
    rows = 1 if positions.places is None or positions.places.cells.dim() == 2 else len(positions.places.cells)
    return encoding.embed(torch.zeros(rows, positions.length, WIDTH), positions)


def test_the_order_in_storage_does_not_matter(encoding: PositionalEncoding) -> None:
    positions = Positions.grid(3, 5)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(1))
    permuted = replace(positions, places=positions.places.take(order))
    assert torch.equal(added(encoding, permuted), added(encoding, positions)[:, order])


def test_cells_that_differ_on_one_axis_differ(encoding: PositionalEncoding) -> None:
    assert len(added(encoding, Positions.grid(3, 5))[0].unique(dim=0)) == 15


def test_pictures_of_several_sizes_are_each_as_alone(encoding: PositionalEncoding) -> None:
    together = added(encoding, Positions.grids(SIZES, 15, (3, 5)))
    for row, (height, width) in enumerate(SIZES[:, 0].tolist()):
        alone = added(encoding, Positions.grid(height, width))[0]
        torch.testing.assert_close(together[row, : height * width], alone, rtol=0, atol=1e-6)


def test_tokens_that_stand_nowhere_get_zeros(encoding: PositionalEncoding) -> None:
    ours = added(encoding, Positions.grids(SIZES, 15, (3, 5)).behind(2))
    assert (ours[:, :2] == 0).all()
    assert torch.equal(ours[:, 2:], added(encoding, Positions.grids(SIZES, 15, (3, 5))))


@pytest.mark.parametrize("name", [name for name in ADDED if name.startswith("Learned")])
def test_a_token_of_a_text_is_at_the_same_number_on_every_axis_of_a_learned_grid(name: str) -> None:
    encoding, text = ADDED[name](), Positions.range(3)
    diagonal = Positions.grid(3, 5).places.take(torch.tensor([0, 6, 12]))  # the cells (0, 0), (1, 1) and (2, 2)
    assert torch.equal(added(encoding, text), added(encoding, replace(text, places=diagonal)))


def test_half_precision_and_autocast_do_not_round_what_is_added(encoding: PositionalEncoding) -> None:
    exact = added(encoding, Positions.grid(3, 5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(added(encoding, Positions.grid(3, 5)), exact)


@pytest.mark.parametrize("made", [LearnedGrid, LearnedAxes])
def test_places_on_other_axes_are_refused(made: type[PositionalEncoding]) -> None:
    with pytest.raises(ValueError, match=r"^encoding Learned\w+.*tokens are on 1: time$"):
        added(made(WIDTH, [3, 5]), Positions.grid(4))


def test_a_width_that_the_axes_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^d_model must.*on 3 axes, got 8$"):
        SinusoidalGrid(8).embed(torch.zeros(1, 8, 8), Positions.grid(2, 2, 2))
