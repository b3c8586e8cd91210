import torch

from poslab.encodings import Positions
from poslab.encodings.sampling.randomized import Shifted


def test_each_row_of_a_training_batch_is_shifted_as_a_whole_by_any_number_up_to_the_largest_alike():
    drawn = Shifted(3)(Positions.range(10), 4_000)
    shifts = drawn.ids - torch.arange(10)
    assert (shifts == shifts[:, :1]).all()
    counts = shifts[:, 0].bincount()
    assert len(counts) == 4 and counts.min() > 900  # 1,000 each, with a standard deviation of 27


def test_a_shift_leaves_documents_and_contiguity_as_they_are():
    packed = Positions.packed(torch.tensor([[5, 5, 5, 8, 8], [0, 1, 1, 1, 2]]))
    drawn = Shifted(100)(packed, 2)
    assert drawn.contiguous and drawn.segments is packed.segments
    assert (drawn.ids - packed.ids == (drawn.ids - packed.ids)[:, :1]).all()
    assert not Shifted(100)(Positions(torch.tensor([0, 2, 4]), 5), 2).contiguous


def test_every_position_is_below_the_stop():
    shifted = Shifted(2)
    drawn = shifted(Positions.range(10), 100)
    assert drawn.stop == shifted.stop(10) == 12 and drawn.ids.max() == 11


def test_evaluation_begins_at_0():
    positions = Positions.range(10)
    assert Shifted(100).eval()(positions, 4) is positions


def test_no_shift_at_all_is_possible():
    assert (Shifted(0)(Positions.range(5), 2).ids == torch.arange(5)).all()
