"""Convolutional positions are those of wav2vec 2.0, and neither padding nor another document is read."""

import pytest
import torch
from torch import Tensor
from transformers import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2PositionalConvEmbedding

from poslab.encodings import Convolutional, Positions, Tokens
from poslab.encodings.tokens import PADDING

WIDTH, LENGTH = 24, 13


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(kernel_size: int, groups: int = 4) -> Convolutional:
    """An encoding that learns from its inputs more than it begins with."""
    encoding = Convolutional(WIDTH, kernel_size, groups)
    with torch.no_grad():
        for seed, parameter in enumerate(encoding.parameters()):
            parameter.add_(random(*parameter.shape, seed=seed))
    return encoding


def theirs(encoding: Convolutional) -> Wav2Vec2PositionalConvEmbedding:
    """The layer of transformers with the same weights."""
    layer = Wav2Vec2PositionalConvEmbedding(
        Wav2Vec2Config(
            hidden_size=WIDTH,
            num_conv_pos_embeddings=encoding.kernel_size,
            num_conv_pos_embedding_groups=encoding.groups,
        )
    )
    norms = encoding.magnitude.detach()[None, None]
    layer.conv.load_state_dict(
        {
            "bias": encoding.offset.detach(),
            "parametrizations.weight.original0": norms,
            "parametrizations.weight.original1": encoding.direction.detach(),
        }
    )
    return layer


@pytest.mark.parametrize("kernel_size", [2, 5, 8, 128])
@pytest.mark.parametrize("groups", [1, 4, WIDTH])
def test_it_is_the_layer_of_transformers(kernel_size, groups):
    encoding, x = made(kernel_size, groups), random(2, LENGTH, WIDTH, seed=9)
    with torch.no_grad():
        added = encoding.embed(x, Positions.range(LENGTH)) - x
        expected = theirs(encoding)(x)
    assert (added - expected).abs().max() < 1e-6 * expected.abs().max().clamp_min(1)


def test_it_is_the_formula_in_float64():
    encoding, x = made(6, groups=3).double(), random(1, LENGTH, WIDTH, seed=9).double()
    width = WIDTH // 3
    for t in range(LENGTH):
        for channel in (0, 7, 8, WIDTH - 1):
            first, total = channel // width * width, encoding.offset[channel]
            for k in range(6):
                there = t + k - 3
                if 0 <= there < LENGTH:
                    direction = encoding.direction[..., k]
                    row = encoding.magnitude[k] * direction[channel] / direction.norm()
                    total = total + row @ x[0, there, first : first + width]
            expected = x[0, t, channel] + total * (1 + torch.erf(total / 2**0.5)) / 2
            assert (encoding.embed(x, Positions.range(LENGTH))[0, t, channel] - expected).abs() < 1e-6


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_registers_are_not_read_and_get_nothing(side):
    encoding, x = made(8), random(2, LENGTH, WIDTH, seed=9)
    real = torch.arange(LENGTH).expand(2, -1) >= 4 if side == "left" else torch.arange(LENGTH).expand(2, -1) < 9
    ids = torch.ones(2, LENGTH, dtype=torch.long).masked_fill(~real, PADDING)
    with torch.no_grad():
        padded = encoding.embed(x, Positions.range(LENGTH), Tokens(ids))
        alone = encoding.embed(x[:, real[0]], Positions.range(9))
        behind = encoding.embed(x, Positions.grid(3, 3).behind(4))
    assert (padded[:, real[0]] - alone).abs().max() < 1e-5
    assert torch.equal(padded[:, ~real[0]], x[:, ~real[0]])
    if side == "left":
        assert torch.equal(behind, padded)


@pytest.mark.parametrize("kernel_size", [2, 5, 8, 40])
def test_documents_of_a_row_do_not_read_one_another(kernel_size):
    encoding, x = made(kernel_size), random(2, LENGTH, WIDTH, seed=9)
    segments = torch.tensor([[3] * 5 + [8] * 1 + [9] * 7, [0] * 13])
    with torch.no_grad():
        packed = encoding.embed(x, Positions.packed(segments))
        for row, numbers in enumerate(([3, 8, 9], [0])):
            for number in numbers:
                own = segments[row] == number
                alone = encoding.embed(x[row : row + 1, own], Positions.range(int(own.sum())))
                assert (packed[row : row + 1, own] - alone).abs().max() < 1e-5


def test_it_begins_as_wav2vec_2_does():
    """The norm of the kernel is that of its direction at first, so that weight normalisation changes nothing."""
    torch.manual_seed(0)
    encoding = Convolutional(d_model=256, kernel_size=32)
    assert abs(encoding.direction.std().item() * (32 * 256) ** 0.5 - 2) < 0.02
    assert (encoding.magnitude - encoding.direction.norm(dim=(0, 1))).abs().max() < 1e-6
    assert (encoding.offset == 0).all()


def test_groups_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match=r"^groups must divide d_model=24, got 16$"):
        Convolutional(WIDTH)
