from collections import Counter
from itertools import combinations

import pytest
import torch

from poslab.encodings import Positions
from poslab.encodings.sampling.randomized import Randomized


def ids(randomized: Randomized, length: int) -> tuple[int, ...]:
    return tuple(randomized(Positions.range(length), 3).ids.tolist())


def test_training_draws_every_ordered_subset_alike_often():
    randomized = Randomized(max_position=5)
    counts = Counter(ids(randomized, 3) for _ in range(2_000))
    assert set(counts) == set(combinations(range(5), 3))
    assert min(counts.values()) > 140  # 200 each, with a standard deviation of 13


def test_training_is_a_function_of_the_global_seed():
    randomized, draws = Randomized(), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(ids(randomized, 20))
    assert draws[0] == draws[1] != draws[2]


def test_evaluation_has_the_same_positions_for_the_same_length_and_seed_and_draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    randomized, same, other = Randomized().eval(), Randomized().eval(), Randomized(seed=1).eval()
    assert ids(randomized, 20) == ids(randomized, 20) == ids(same, 20)
    assert len({ids(randomized, 20), ids(other, 20), ids(randomized, 21)[:20]}) == 3
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("training", [True, False])
def test_positions_are_distinct_in_order_and_below_the_stop(training):
    randomized = Randomized(max_position=100).train(training)
    for length in (1, 30, 100):
        positions = randomized(Positions.range(length), 2)
        assert (positions.ids.diff() > 0).all()
        assert positions.ids.min() >= 0 and positions.ids.max() < positions.stop <= randomized.stop(length) == 100
    assert positions.ids.tolist() == list(range(100))


def test_evaluation_covers_all_positions_and_not_the_first_alone():
    drawn = torch.tensor(ids(Randomized(max_position=1_000).eval(), 100))
    assert drawn[0] < 50 and drawn[-1] >= 950 and 400 < drawn.float().mean() < 600


def test_an_empty_text_has_no_positions():
    drawn = Randomized(max_position=30).eval()(Positions.range(0), 2)
    assert drawn.length == drawn.stop == 0


def test_positions_are_not_contiguous():
    assert not Randomized()(Positions.range(5), 2).contiguous


@pytest.mark.parametrize("training", [True, False])
def test_documents_and_padding_share_a_draw(training):
    packed = Positions.packed(torch.tensor([[5, 5, 5, 8, 8], [0, 1, 1, 1, 2]]))
    positions = Randomized().train(training)(packed, 2)
    first = positions.ids[0].tolist()
    assert first[:2] == first[3:] and positions.ids[1].tolist() == [first[0], first[0], first[1], first[2], first[0]]
    assert positions.segments is packed.segments
    padded = Randomized().train(training)(Positions.padded(torch.tensor([[False, True, True]])), 1).ids[0]
    assert padded[0] == padded[1] < padded[2]


@pytest.mark.parametrize("training", [True, False])
def test_a_text_with_more_tokens_than_positions_is_refused(training):
    randomized = Randomized(max_position=10).train(training)
    assert randomized.max_length == 10
    with pytest.raises(ValueError, match=r"^max_position=10.*a text of 11 tokens, [^\n]+$"):
        randomized(Positions.range(11), 1)
