import math

import pytest
import torch

from poslab.encodings import Positions
from poslab.encodings.sampling.randomized import Cape

ROWS, LENGTH = 4_000, 12


def drawn(**limits) -> torch.Tensor:
    """The positions of many rows of 12 tokens, under no other change than the named ones."""
    torch.manual_seed(0)
    off = {"max_global_shift": 0.0, "max_local_shift": 0.0, "max_scale": 1.0}
    return Cape(**off | limits)(Positions.range(LENGTH), ROWS).ids


def assert_uniform(x: torch.Tensor, limit: float) -> None:
    """Numbers from -limit to limit, all parts of that as often."""
    assert x.abs().max() <= limit * 1.0001
    shares = torch.histc(x.flatten(), bins=10, min=-limit, max=limit) / x.numel()
    assert ((shares - 0.1).abs() < 0.025).all()


def test_a_global_shift_moves_each_row_as_a_whole_to_either_side():
    shift = drawn(max_global_shift=5.0) - torch.arange(LENGTH)
    assert (shift - shift[:, :1]).abs().max() < 1e-5
    assert_uniform(shift[:, 0], 5.0)


def test_a_local_shift_moves_each_position_to_either_side_on_its_own():
    jitter = drawn(max_local_shift=0.5) - torch.arange(LENGTH)
    assert_uniform(jitter, 0.5)
    between_positions = torch.corrcoef(jitter.T) - torch.eye(LENGTH)
    assert between_positions.abs().max() < 0.08


def test_a_local_shift_of_half_a_position_keeps_the_order():
    assert (drawn(max_local_shift=0.5).diff() >= 0).all()


def test_a_scale_stretches_and_shrinks_each_row_alike_often():
    ids = drawn(max_scale=2.0)
    factors = ids[:, 1:] / torch.arange(1, LENGTH)
    assert (factors - factors[:, :1]).abs().max() < 1e-5
    assert_uniform(factors[:, 0].log(), math.log(2.0))


def test_scaling_comes_after_both_shifts():
    factor = drawn(max_global_shift=5.0, max_scale=2.0).diff().mean(dim=1)
    first = drawn(max_global_shift=5.0, max_scale=2.0)[:, 0]
    assert_uniform(first / factor, 5.0)
    ids = drawn(max_local_shift=0.5, max_scale=2.0)  # stretched jitter reaches further than half a position
    assert (ids[:, 0].abs() > 0.75).any() and ids[:, 0].abs().max() <= 1.0


def test_documents_of_a_row_share_a_draw_and_so_do_tokens_at_the_same_position():
    packed = Positions.packed(torch.tensor([[5, 5, 5, 8, 8], [0, 1, 1, 1, 2]]))
    ids = Cape(5.0, 0.5, 1.5)(packed, 2)
    assert ids.segments is packed.segments
    assert torch.equal(ids.ids[0, :2], ids.ids[0, 3:])
    assert ids.ids[1, 0] == ids.ids[1, 1] == ids.ids[1, 4]
    padded = Cape()(Positions.padded(torch.tensor([[False, False, True, True]])), 1).ids[0]
    assert padded[0] == padded[1] == padded[2] < padded[3]


def test_positions_are_contiguous_only_where_they_are_only_shifted():
    positions = Positions.range(5)
    assert Cape(5.0, 0.0, 1.0)(positions, 2).contiguous
    assert not Cape(0.0, 0.5, 1.0)(positions, 2).contiguous
    assert not Cape(0.0, 0.0, 1.03)(positions, 2).contiguous


@pytest.mark.parametrize("limits", [{}, {"max_global_shift": 0.0}, {"max_local_shift": 0.0, "max_scale": 1.0}])
def test_every_position_is_below_the_stop(limits):
    cape = Cape(**limits)
    positions = cape(Positions.range(LENGTH, 4_000), ROWS)
    assert positions.stop == cape.stop(4_000 + LENGTH)
    assert positions.stop - 20 < positions.ids.max() < positions.stop


def test_positions_are_float32_under_autocast_and_in_a_bfloat16_model():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Cape().to(torch.bfloat16)(Positions.range(5), 2).ids.dtype == torch.float32


def test_evaluation_has_the_positions_as_they_are():
    positions = Positions.range(10)
    assert Cape().eval()(positions, 4) is positions
