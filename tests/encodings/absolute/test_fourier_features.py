import pytest
import torch
from transformers.models.perceiver.modeling_perceiver import build_linear_positions, generate_fourier_features

from poslab.encodings import FourierFeatures, Positions


@pytest.mark.parametrize(("grid", "size"), [((8, 8), (8, 8)), ((8, 6), (3, 11)), ((4, 5, 6), (2, 3, 4))])
def test_its_features_are_those_of_perceiver(grid, size):
    positions = Positions.grid(*size)
    places = build_linear_positions(size).view(1, positions.length, len(size))
    theirs = generate_fourier_features(places, 5, grid)[0]
    torch.testing.assert_close(FourierFeatures(8, grid, 5).features(positions), theirs, rtol=0, atol=1e-5)


def test_a_text_is_the_beginning_of_one_of_the_training_length():
    encoding = FourierFeatures(8, [9], 5)
    whole = encoding.features(Positions.grid(9))
    torch.testing.assert_close(encoding.features(Positions.range(4, 3)), whole[3:7], rtol=0, atol=1e-6)


def test_features_are_projected():
    encoding, positions = FourierFeatures(8, [4, 5], 5), Positions.grid(4, 5)
    x = torch.randn(2, 20, 8, generator=torch.Generator().manual_seed(0))
    expected = x + encoding.projection(encoding.features(positions))
    torch.testing.assert_close(encoding.embed(x, positions), expected)
