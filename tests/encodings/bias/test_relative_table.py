from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from transformers import BeitConfig
from transformers.models.beit.modeling_beit import BeitRelativePositionBias
from transformers.models.swin.modeling_swin import SwinRelativePositionBias

from poslab.encodings import BeitBias, Positions, RelativeTable
from poslab.encodings.offsets import BiasOfLattice
from tests.encodings.agreement import bias_matrix


def relative_table(grid: list[int], heads: int = 3) -> RelativeTable:
    torch.manual_seed(0)
    made = RelativeTable(heads, grid)
    torch.nn.init.normal_(made.table)
    return made


@pytest.mark.parametrize("grid", [(7, 7), (3, 5), (4, 1)])
def test_on_its_own_grid_it_is_the_bias_of_swin(grid):
    ours = relative_table(grid)
    swin = SwinRelativePositionBias(3, grid)
    swin.relative_position_bias_table.data.copy_(ours.table)
    positions = Positions.grid(*grid)
    assert torch.equal(bias_matrix(ours, positions, positions), swin()[0])


def both_of_beit(grid: tuple[int, int], heads: int = 3) -> tuple[BeitBias, BeitRelativePositionBias]:
    """Our bias and that of transformers, with the same numbers."""
    torch.manual_seed(0)
    height, width = grid
    config = BeitConfig(image_size=(height * 16, width * 16), patch_size=16, hidden_size=12, num_attention_heads=heads)
    ours, theirs = BeitBias(heads, grid), BeitRelativePositionBias(config)
    table = torch.nn.init.normal_(theirs.relative_position_bias_table)
    ours.table.data, ours.without_position.data = table.data.split([len(table) - 3, 3])
    return ours, theirs


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (7, 7)])
def test_with_a_class_token_on_its_own_grid_it_is_the_bias_of_beit(grid):
    ours, theirs = both_of_beit(grid)
    positions = Positions.grid(*grid).behind(1)
    index = theirs.generate_relative_position_index(grid)
    expected = theirs.relative_position_bias_table[index].movedim(-1, 0)
    assert torch.equal(bias_matrix(ours, positions, positions), expected)


@pytest.mark.parametrize("larger", [(6, 4), (7, 9)])
def test_on_a_larger_grid_it_is_the_resized_bias_of_beit(larger):
    ours, theirs = both_of_beit((4, 4))
    positions = Positions.grid(*larger).behind(1)
    torch.testing.assert_close(bias_matrix(ours, positions, positions), theirs(larger)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("larger", [(6, 4), (7, 9)])
def test_without_gradients_the_bias_of_one_larger_grid_is_a_lattice_of_the_same_numbers(larger):
    ours, _ = both_of_beit((4, 4))
    positions = Positions.grid(*larger).behind(2)
    expected = bias_matrix(ours, positions, positions)
    with torch.no_grad():
        tables = ours.prepare(positions, positions)
    assert isinstance(tables, BiasOfLattice)
    torch.testing.assert_close(tables.matrix()[0], expected, rtol=0, atol=1e-5)


def test_all_registers_share_the_numbers_of_the_class_token():
    ours, theirs = both_of_beit((4, 4))
    positions = Positions.grid(4, 4).behind(3)
    tokens = [0, 0, 0, *range(1, 17)]
    assert torch.equal(bias_matrix(ours, positions, positions), theirs((4, 4))[0][:, tokens][:, :, tokens])


@pytest.mark.parametrize("larger", [(5, 8), (4, 8)])
def test_a_table_that_is_not_square_is_resized_on_each_axis_by_its_own_share(larger):
    """Transformers exchanges its axes, so the oracle is PyTorch's interpolation and a double loop."""
    ours, positions = relative_table([4, 6]), Positions.grid(*larger)
    height, width = larger
    table = ours.table.view(1, 7, 11, 3).permute(0, 3, 1, 2)
    resized = functional.interpolate(table, (2 * height - 1, 2 * width - 1), mode="bilinear")[0]
    bias = bias_matrix(ours, positions, positions)
    cells = positions.places.cells.tolist()
    for i, (y, x) in enumerate(cells):
        for j, (v, u) in enumerate(cells):
            expected = resized[:, y - v + height - 1, x - u + width - 1]
            torch.testing.assert_close(bias[:, i, j], expected, rtol=0, atol=1e-5)


def test_a_smaller_grid_is_the_corner_of_a_larger_one():
    ours, whole = relative_table([3, 5]), Positions.grid(3, 5)
    corner = [0, 1, 2, 5, 6, 7]
    small = Positions.grid(2, 3)
    expected = bias_matrix(ours, whole, whole)[:, corner][:, :, corner]
    assert torch.equal(bias_matrix(ours, small, small), expected)


def test_past_its_ends_the_bias_is_that_of_the_ends():
    ours = relative_table([3, 5])
    far, ends = torch.tensor([[9, -9], [1, 70]]), torch.tensor([[2, -4], [1, 4]])
    assert torch.equal(ours.bias_of(far), ours.bias_of(ends))
    assert torch.equal(ours.bias_of(far.float()), ours.bias_of(ends))


def test_between_whole_offsets_it_is_linear():
    ours, positions = relative_table([3, 5]), Positions.grid(3, 5)
    half = replace(positions, places=positions.places.at(positions.places.cells / 2))
    bias = bias_matrix(ours, half, half)
    exact = ours.bias_of(torch.tensor([[1, 0], [1, 1]])).mean(-1)  # the offset (1, 0.5)
    torch.testing.assert_close(bias[:, 11, 0], exact, rtol=0, atol=1e-6)
