import math

import pytest
import torch
from positional_encodings.torch_encodings import PositionalEncoding1D
from transformers.models.gptj.modeling_gptj import create_sinusoidal_positions
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding
from transformers.models.roformer.modeling_roformer import RoFormerSinusoidalPositionalEmbedding
from x_transformers.x_transformers import ScaledSinusoidalEmbedding

from poslab.encodings import Fourier, Positions, Sinusoidal


def table(sinusoidal: Sinusoidal, positions: Positions) -> torch.Tensor:
    """The vectors that are added to embeddings of zero, (T, M)."""
    return sinusoidal.embed(torch.zeros(1, positions.length, sinusoidal.d_model), positions)[0]


def interleaved(sines_then_cosines: torch.Tensor) -> torch.Tensor:
    return torch.stack(sines_then_cosines.chunk(2, dim=-1), dim=-1).flatten(-2)


def test_sinusoids_are_those_of_gptj_with_sines_and_cosines_in_turn():
    ours = table(Sinusoidal(32), Positions.range(512))
    torch.testing.assert_close(ours, interleaved(create_sinusoidal_positions(512, 32)), rtol=0, atol=1e-5)


def test_interleaved_sinusoids_are_those_of_positional_encodings():
    theirs = PositionalEncoding1D(32)(torch.zeros(1, 512, 32))[0]
    torch.testing.assert_close(table(Sinusoidal(32), Positions.range(512)), theirs, rtol=0, atol=1e-5)


# Marian and RoFormer make angles in float64; at position 512 a float32 angle is off by up to 3e-5.
@pytest.mark.parametrize("theirs", [MarianSinusoidalPositionalEmbedding, RoFormerSinusoidalPositionalEmbedding])
@pytest.mark.parametrize("width", [8, 32, 192])
def test_concatenated_sinusoids_are_those_of_marian_and_roformer(theirs, width):
    ours = table(Sinusoidal(width, layout="concatenated"), Positions.range(128))
    torch.testing.assert_close(ours, theirs(128, width).create_weight(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("base", [100.0, 10_000.0, 1e6])
def test_sinusoids_of_any_base_are_those_of_x_transformers(base):
    theirs = ScaledSinusoidalEmbedding(32, theta=base)
    ours = table(Sinusoidal(32, base=base), Positions.range(64))
    unscaled = theirs(torch.zeros(1, 64, 32)) / theirs.scale
    torch.testing.assert_close(ours, interleaved(unscaled), rtol=0, atol=1e-5)


def test_sinusoids_are_the_formula_of_the_paper():
    ours = table(Sinusoidal(8, base=50.0), Positions.range(20, start=3))
    for p in range(3, 23):
        for m in range(4):
            angle = p * 50.0 ** (-2 * m / 8)
            assert float(ours[p - 3, 2 * m]) == pytest.approx(math.sin(angle), abs=1e-5)
            assert float(ours[p - 3, 2 * m + 1]) == pytest.approx(math.cos(angle), abs=1e-5)


@pytest.mark.parametrize("encoding", [Sinusoidal, Fourier])
def test_embeddings_are_multiplied_by_the_root_of_the_width_or_by_the_given_scale(encoding):
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    positions = Positions.range(5)
    added = encoding(16).embed(torch.zeros(1, 5, 16), positions)
    torch.testing.assert_close(encoding(16).embed(x, positions), 4 * x + added)
    torch.testing.assert_close(encoding(16, scale=1.5).embed(x, positions), 1.5 * x + added)


def test_a_real_position_lies_between_its_neighbours():
    ours = table(Sinusoidal(2), Positions(torch.tensor([0.0, 0.25, -1.5]), stop=1))
    expected = [[math.sin(p), math.cos(p)] for p in (0.0, 0.25, -1.5)]
    torch.testing.assert_close(ours, torch.tensor(expected))
