"""PoSE: by its properties, and against the authors' rule, written again as a loop over texts."""

import random
from collections import Counter
from itertools import pairwise

import pytest
import torch
from scipy import stats

from poslab.encodings import Positions
from poslab.encodings.sampling.randomized import Pose


def rows(pose: Pose, length: int, count: int, seed: int = 0) -> torch.Tensor:
    """The positions of many texts of one length."""
    torch.manual_seed(seed)
    return pose(Positions.range(length), count).ids


def of_the_authors(length: int, target: int) -> tuple[int, int]:
    """Length of the first chunk and skip of the second, as train_preprocess_function_pose of dwzhu-pku/PoSE draws them.

    Its text has `length` tokens. It draws the end of the first chunk up to half of the text, rounded up, and shifts all
    tokens behind it by up to target - length.
    """
    return random.randint(1, (length + 1) // 2), random.randint(0, target - length)


def chunks_and_skips(ids: torch.Tensor) -> list[tuple[int, int]]:
    """The same of rows of two chunks; a skip of 0 leaves the end of the first chunk unknown, here 0."""
    found = []
    for row in ids.tolist():
        ends = [place for place in range(1, len(row)) if row[place] != row[place - 1] + 1]
        found.append((ends[0] if ends else 0, row[-1] - (len(row) - 1)))
    return found


@pytest.mark.parametrize("chunks", [2, 3, 5])
@pytest.mark.parametrize("length", [1, 2, 7, 16])
def test_positions_start_at_0_ascend_and_have_a_gap_only_between_chunks(chunks, length):
    ids = rows(Pose(64, chunks), length, 500)
    assert (ids[:, 0] == 0).all() and ids.max() <= 63
    steps = ids.diff(dim=1)
    assert (steps >= 1).all() and ((steps > 1).sum(1) <= chunks - 1).all()
    if length > chunks:
        assert ((steps > 1).sum(1) == chunks - 1).any()


def test_every_distance_and_every_position_of_a_long_text_is_trained():
    ids = rows(Pose(32), 8, 2_000)
    assert set(ids.unique().tolist()) == set(range(32))
    distances = ids.unsqueeze(2) - ids.unsqueeze(1)
    assert set(distances.unique().tolist()) == set(range(-31, 32))


@pytest.mark.parametrize("length", [8, 9])
def test_chunks_and_skips_are_those_of_the_authors_code(length):
    count, target = 20_000, 24
    random.seed(1)
    theirs = Counter((end if skip else 0, skip) for end, skip in (of_the_authors(length, target) for _ in range(count)))
    ours = Counter(chunks_and_skips(rows(Pose(target), length, count)))
    assert ours.keys() == theirs.keys()
    both = [[draws[pair] for pair in sorted(theirs)] for draws in (ours, theirs)]
    assert stats.chi2_contingency(both).pvalue > 0.01


def test_the_skip_and_the_first_chunk_are_uniform_and_independent():
    drawn = [pair for pair in chunks_and_skips(rows(Pose(24), 8, 20_000)) if pair[1]]
    counts = [[Counter(drawn)[end, skip] for skip in range(1, 17)] for end in range(1, 5)]
    assert stats.chisquare([n for line in counts for n in line]).pvalue > 0.01


def test_of_three_chunks_each_skips_from_the_last_skip_on():
    skips = Counter()
    for row in rows(Pose(12, 3), 6, 30_000).tolist():
        steps = [after - before - 1 for before, after in pairwise(row)]
        gaps = [step for step in steps if step]
        if len(gaps) == 2:
            skips[gaps[0], sum(gaps)] += 1
    # u_1 ~ U{0, ..., 6}, then u_2 ~ U{u_1, ..., 6}, seen where both chunks have moved: 1 <= u_1 < u_2
    expected = {(u, v): 1 / (7 - u) for u in range(1, 6) for v in range(u + 1, 7)}
    assert skips.keys() == expected.keys()
    total = skips.total() / sum(expected.values())
    assert stats.chisquare([skips[pair] for pair in expected], [p * total for p in expected.values()]).pvalue > 0.01


def test_rows_differ_and_are_a_function_of_the_global_seed():
    one, again, other = (rows(Pose(4096), 64, 4, seed) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert len({tuple(row) for row in one.tolist()}) == 4


def test_evaluation_leaves_positions_of_any_length_and_draws_nothing():
    before, pose = torch.get_rng_state(), Pose(32).eval()
    for length in (8, 32, 100):
        given = Positions.range(length)
        assert pose(given, 3) is given and pose.stop(length) >= given.stop
    assert torch.equal(torch.get_rng_state(), before) and pose.max_length is None


def test_the_stop_of_training_is_the_target_and_the_positions_are_not_contiguous():
    positions = Pose(64)(Positions.range(8), 2)
    assert positions.stop == Pose(64).stop(8) == 64 and not positions.contiguous


def test_a_text_as_long_as_the_target_stays_and_a_longer_one_is_refused():
    assert (rows(Pose(16), 16, 3) == torch.arange(16)).all()
    with pytest.raises(ValueError, match=r"^target_length=16.*text of 17 tokens$"):
        Pose(16)(Positions.range(17), 1)


def test_each_row_of_a_batch_reaches_the_target_whatever_its_padding():
    real = torch.tensor([[False] * 12 + [True] * 4, [True] * 16]).repeat(2_000, 1)
    ids = Pose(40)(Positions.padded(real), 4_000).ids
    short, long = ids[::2, 12:], ids[1::2]
    assert (ids[::2, :12] == 0).all() and (short[:, 0] == 0).all()
    assert short.max() == long.max() == 39
    assert {end for end, skip in chunks_and_skips(short) if skip} == {1, 2}


def test_documents_of_a_row_share_a_draw():
    packed = Positions.packed(torch.tensor([[5, 5, 5, 5, 5, 8, 8, 8]]))
    for _ in range(50):
        positions = Pose(20)(packed, 1)
        first = positions.ids[0].tolist()
        assert first[:3] == first[5:] and positions.segments is packed.segments


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"target_length": 0}, "target_length must .*, got 0"),
        ({"target_length": 9, "chunks": 1}, "chunks must .*, got 1"),
    ],
)
def test_arguments_out_of_their_range_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        Pose(**arguments)
