import math
from dataclasses import replace

import pytest
import torch
from transformers.models.detr.modeling_detr import DetrSinePositionEmbedding
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

from poslab.encodings import Positions, Sinusoidal, SinusoidalGrid

GRIDS = [(14, 14), (5, 9), (64, 3)]


def table(encoding, positions):
    return encoding.embed(torch.zeros(1, positions.length, encoding.d_model), positions)[0]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("base", [100.0, 10_000.0])
def test_it_is_that_of_mae_with_a_class_token_of_zeros(grid, base):
    theirs = build_2d_sinusoidal_position_embedding(*grid, 32, base, cls_token=True)
    ours = table(SinusoidalGrid(32, base), Positions.grid(*grid).behind(1))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("normalize", [False, True])
def test_it_is_that_of_detr_at_coordinates_from_1(grid, normalize):
    theirs = DetrSinePositionEmbedding(16, normalize=normalize)((1, 3, *grid), "cpu", torch.float32)
    positions = Positions.grid(*grid)
    coordinates = positions.places.cells + 1.0
    if normalize:
        coordinates = coordinates / (positions.places.sizes + 1e-6) * 2 * math.pi
    moved = replace(positions, places=positions.places.at(coordinates))
    ours = table(SinusoidalGrid(32, layout="interleaved"), moved)
    torch.testing.assert_close(ours, theirs[0].flatten(1).T, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", ["concatenated", "interleaved"])
def test_on_three_axes_each_has_the_sinusoids_of_one(layout):
    positions = Positions.grid(2, 4, 3)
    ours = table(SinusoidalGrid(24, layout=layout), positions).view(24, 3, 8)
    for axis, size in enumerate((2, 4, 3)):
        of_axis = table(Sinusoidal(8, scale=1.0, layout=layout), Positions.range(size))
        assert torch.equal(ours[:, axis], of_axis[positions.places.cells[:, axis]])


def test_on_a_text_or_a_grid_of_one_axis_it_is_the_sinusoidal_encoding():
    x = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0))
    plain = Sinusoidal(32, scale=1.0, layout="concatenated")
    for positions in (Positions.range(9, 5), Positions.grid(9)):
        assert torch.equal(SinusoidalGrid(32).embed(x, positions), plain.embed(x, positions))
