import pytest
import torch

from poslab.encodings import Alibi, Positions
from poslab.encodings.distance import TokenPairs
from tests.encodings.agreement import bias_matrix


def test_a_range_is_contiguous_and_knows_where_it_stops():
    positions = Positions.range(3, start=7)
    assert positions.ids.tolist() == [7, 8, 9]
    assert (positions.stop, positions.length, positions.contiguous) == (10, 3, True)


def test_packed_documents_each_count_from_0():
    positions = Positions.packed(torch.tensor([[5, 5, 5, 8, 8], [0, 1, 1, 1, 2]]))
    assert positions.ids.tolist() == [[0, 1, 2, 0, 1], [0, 0, 1, 2, 0]]
    assert positions.contiguous


def test_rows_with_padding_count_from_their_first_token():
    real = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    ids = Positions.padded(real).ids
    assert ids[real].tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("positions", "ids"),
    [
        (Positions.range(3, start=7), [10, 11]),
        (Positions.packed(torch.tensor([[0, 0, 1], [0, 0, 0]])), [[1, 2], [3, 4]]),
        (Positions.padded(torch.tensor([[False, True, True], [True, True, True]])), [[2, 3], [3, 4]]),
    ],
)
def test_a_continuation_follows_the_last_position_of_each_row(positions, ids):
    continuation = positions.continuation(2)
    assert continuation.ids.tolist() == ids
    assert continuation.contiguous
    assert int(continuation.ids.max()) < continuation.stop


def test_a_continuation_stays_in_the_last_document_of_each_row():
    continuation = Positions.packed(torch.tensor([[0, 0, 1], [4, 4, 4]])).continuation(2)
    assert continuation.segments.tolist() == [[1, 1], [4, 4]]


def test_joined_positions_stand_side_by_side_whether_rows_share_them_or_not():
    shared, by_row = Positions.range(2), Positions(torch.tensor([[5], [9]]), stop=10)
    assert shared.followed_by(Positions.range(1, 2)).ids.tolist() == [0, 1, 2]
    assert shared.followed_by(by_row).ids.tolist() == [[0, 1, 5], [0, 1, 9]]
    assert by_row.followed_by(shared).ids.tolist() == [[5, 0, 1], [9, 0, 1]]
    joined = shared.followed_by(by_row)
    assert (joined.stop, joined.contiguous) == (10, False)


def test_the_parts_of_a_text_are_its_positions_one_after_another():
    packed = Positions.packed(torch.tensor([[0, 0, 0, 1, 1, 2]]))
    first, last = packed.part(slice(0, 4)), packed.part(slice(4, 6))
    assert (first.ids.tolist(), last.ids.tolist()) == ([[0, 1, 2, 0]], [[1, 0]])
    whole = first.followed_by(last)
    assert torch.equal(whole.ids, packed.ids) and torch.equal(whole.segments, packed.segments)
    assert whole.contiguous and whole.stop == first.stop == packed.stop


def test_documents_may_not_get_lost_when_positions_are_joined():
    packed = Positions.packed(torch.tensor([[0, 0, 1]]))
    with pytest.raises(ValueError, match=r"^segments must.*or for none"):
        packed.followed_by(Positions.range(1, 3))


def test_distance_is_query_position_minus_key_position():
    assert TokenPairs.between(Positions.range(2, 3), Positions.range(3)).distance().tolist() == [
        [[[3, 2, 1], [4, 3, 2]]]
    ]


@pytest.mark.parametrize(("queries", "keys"), [((3, 0), (5, 0)), ((1, 10), (5, 0)), ((4, 2), (4, 2)), ((2, 3), (5, 0))])
def test_a_bias_of_distance_follows_ids_also_where_another_sequence_is_attended_to(queries, keys):
    query_positions, key_positions = Positions.range(*queries), Positions.range(*keys)
    distance = query_positions.ids[:, None] - key_positions.ids
    torch.testing.assert_close(bias_matrix(Alibi(2), query_positions, key_positions)[1], -distance.abs() / 256.0)
