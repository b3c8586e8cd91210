from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from transformers import Gemma4VisionConfig
from transformers.models.gemma4.modeling_gemma4 import Gemma4VisionPatchEmbedder
from transformers.models.siglip2.modeling_siglip2 import Siglip2VisionEmbeddings

from poslab.encodings import Learned, LearnedAxes, LearnedGrid, Positions

WIDTH = 8
SIZES = torch.tensor([[7, 7], [3, 5], [20, 2], [9, 11], [1, 1]])


def learned(made, *arguments):
    torch.manual_seed(0)
    return made(WIDTH, *arguments)


def added(encoding, positions, rows=1):
    return encoding.embed(torch.zeros(rows, positions.length, WIDTH), positions)


def test_a_batch_of_several_sizes_is_that_of_siglip2():
    ours = learned(LearnedGrid, [7, 7])
    theirs = Siglip2VisionEmbeddings.resize_positional_embeddings(ours.table, SIZES, 100)
    bias = added(ours, Positions.grids(SIZES.unsqueeze(1), 100, (20, 11)), len(SIZES))
    for row, count in enumerate(SIZES.prod(-1).tolist()):
        torch.testing.assert_close(bias[row, :count], theirs[row, :count], rtol=0, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(6, 4), (3, 5), (13, 2), (1, 9)])
def test_it_is_the_resized_table(interpolation, size):
    ours = learned(LearnedGrid, [6, 4], interpolation)
    table = ours.table.permute(2, 0, 1)[None]
    resized = functional.interpolate(table, size, mode=interpolation, antialias=True)
    vectors = added(ours, Positions.grid(*size))[0]
    torch.testing.assert_close(vectors, resized[0].flatten(1).T, rtol=0, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "none"])
def test_on_the_grid_of_training_it_is_the_table(interpolation):
    ours = learned(LearnedGrid, [3, 5], interpolation)
    torch.testing.assert_close(added(ours, Positions.grid(3, 5))[0], ours.table.flatten(0, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_axes_are_resized_one_by_one(interpolation):
    ours, size = learned(LearnedAxes, [6, 4], interpolation), (4, 9)
    rows, columns = (
        functional.interpolate(table.T[None, :, None], (1, n), mode=interpolation, antialias=True)[0, :, 0]
        for table, n in zip(ours.tables, size, strict=True)
    )
    expected = (rows.unsqueeze(2) + columns.unsqueeze(1)).flatten(1).T
    torch.testing.assert_close(added(ours, Positions.grid(*size))[0], expected, rtol=0, atol=1e-6)


def test_axes_without_interpolation_are_those_of_gemma_4():
    config = Gemma4VisionConfig(hidden_size=WIDTH, patch_size=4, position_embedding_size=16)
    theirs, ours = Gemma4VisionPatchEmbedder(config), learned(LearnedAxes, [16, 16], "none")
    theirs.position_embedding_table.data.copy_(torch.stack([*ours.tables][::-1]))  # its first axis is the width
    sizes = torch.tensor([[[5, 9]], [[15, 3]]])
    positions = Positions.grids(sizes, 45, (15, 9))
    expected = theirs._position_embeddings(positions.places.cells.flip(-1), torch.zeros(2, 45, dtype=torch.bool))
    torch.testing.assert_close(added(ours, positions, 2), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("made", [LearnedGrid, LearnedAxes])
def test_without_interpolation_a_smaller_grid_has_the_first_cells_and_a_larger_one_is_refused(made):
    ours = learned(made, [3, 5], "none")
    whole, corner = added(ours, Positions.grid(3, 5))[0], added(ours, Positions.grid(2, 2))[0]
    assert torch.equal(corner, whole[[0, 1, 5, 6]])
    with pytest.raises(
        ValueError,
        match=r"^grid=\[3, 5\] ends before .* \[4, 5\]; .*bilinear$".replace("bilinear", "interpolation=bilinear"),
    ):
        added(ours, Positions.grid(4, 5))
    half = Positions.grid(3, 5)
    with pytest.raises(ValueError, match=r"^interpolation must.*coordinates are not"):
        added(ours, replace(half, places=half.places.at(half.places.cells / 2)))


def test_a_coordinate_outside_the_grid_is_as_at_its_edge():
    ours, positions = learned(LearnedGrid, [3, 5], "bilinear"), Positions.grid(3, 5)
    outside = replace(positions, places=positions.places.at(positions.places.cells * 50 - 20))
    found = added(ours, outside)[0].view(3, 5, WIDTH)
    torch.testing.assert_close(found[0, 0], ours.table[0, 0])
    torch.testing.assert_close(found[2, 4], ours.table[2, 4])


@pytest.mark.parametrize("made", [LearnedGrid, LearnedAxes])
def test_a_grid_of_one_axis_is_the_learned_encoding_of_a_text_and_ends_like_it(made):
    ours, plain = learned(made, [16]), Learned(WIDTH, 16)
    plain.table.weight.data.copy_(next(ours.parameters()))
    positions = Positions.range(9, 7)
    assert ours.max_length == 16 and torch.equal(added(ours, positions), added(plain, positions))
    with pytest.raises(ValueError, match=r"^max_length=16 learned positions, [^\n]+ position 16; [^\n]+$"):
        added(ours, Positions.range(2, 15))


def test_a_text_past_a_side_of_a_grid_is_at_its_last_cell():
    ours = learned(LearnedGrid, [3, 5])
    expected = ours.table[[0, 1, 2, 2, 2, 2], [0, 1, 2, 3, 4, 4]]
    assert ours.max_length is None and torch.equal(added(ours, Positions.range(6))[0], expected)


@pytest.mark.parametrize("made", [LearnedGrid, LearnedAxes])
def test_real_positions_of_a_text_are_refused(made):
    with pytest.raises(ValueError, match=r"^positions must.*got real numbers: "):
        added(learned(made, [16]), Positions(torch.tensor([0.0, 0.5]), stop=2))
