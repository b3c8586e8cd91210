"""Random float sampling, by its properties in training and by its formula in evaluation."""

import pytest
import torch
from scipy import stats

from poslab.encodings import Fractional, Positions


def test_training_positions_are_sorted_uniform_numbers_of_each_row():
    torch.manual_seed(0)
    ids = Fractional(50)(Positions.range(20), 500).ids
    assert (ids.diff(dim=1) > 0).all() and ids.min() >= 0 and ids.max() < 50
    assert stats.kstest(ids.flatten() / 50, "uniform").pvalue > 0.01
    # The i-th of n sorted uniform numbers has the distribution Beta(i, n - i + 1).
    for place in (0, 9, 19):
        assert stats.kstest(ids[:, place] / 50, stats.beta(place + 1, 20 - place).cdf).pvalue > 0.01


@pytest.mark.parametrize("length", [3, 8, 20])
def test_evaluation_spreads_a_text_over_the_training_length_and_draws_nothing(length):
    before, sampler = torch.get_rng_state(), Fractional(8).eval()
    positions = sampler(Positions.range(length), 2)
    expected = [8 * (2 * i - 1) / (2 * max(8, length)) for i in range(1, length + 1)]  # the paper's, times 8
    torch.testing.assert_close(positions.ids, torch.tensor(expected))
    assert positions.contiguous == (length <= 8)
    assert torch.equal(torch.get_rng_state(), before)


def test_documents_of_a_row_share_a_draw():
    packed = Positions.packed(torch.tensor([[5, 5, 5, 8, 8]]))
    first = Fractional(9)(packed, 1).ids[0].tolist()
    assert first[:2] == first[3:] and first[1] < first[2]
