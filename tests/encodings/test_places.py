"""Places of tokens on several axes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from poslab.encodings import Positions
from poslab.encodings.places import Places

SEQUENCE = torch.tensor([[1, 1], [1, 1], [2, 3], [1, 1]])
"""Two tokens of text, a picture of two rows of three patches, and one more token."""


@pytest.mark.parametrize("sizes", [(7,), (2, 3), (3, 2), (2, 3, 4)])
def test_the_cells_of_a_grid_stand_row_after_row(sizes: tuple[int, ...]) -> None:
    positions = Positions.grid(*sizes)
    places = positions.places
    assert places is not None
    expected = np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=-1)
    assert places.cells.tolist() == places.coordinates.tolist() == expected.tolist()
    assert places.sizes.tolist() == [list(sizes)] * int(np.prod(sizes))
    assert positions.ids.tolist() == list(range(int(np.prod(sizes)))) and positions.contiguous


def test_axes_have_their_usual_names_or_others() -> None:
    assert [Positions.grid(*[2] * n).places.axes for n in (1, 2, 3)] == [
        ("time",),
        ("height", "width"),
        ("time", "height", "width"),
    ]
    assert Positions.grid(2, 3, axes=("frequency", "time")).places.axes == ("frequency", "time")
    with pytest.raises(ValueError, match=r"axes must.*got 2 axes, 1 names"):
        Positions.grid(2, 3, axes=("time",))


def test_rows_may_hold_grids_of_several_sizes_and_padding() -> None:
    places = Positions.grids(torch.tensor([[[2, 3]], [[2, 2]]]), 6, (2, 3)).places
    assert places is not None
    assert places.cells.tolist() == [
        [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]],
        [[0, 0], [0, 1], [1, 0], [1, 1], [1, 1], [1, 1]],
    ]
    assert places.sizes[1].tolist() == [[2, 2]] * 6


def test_tokens_of_text_are_grids_of_one_cell() -> None:
    places = Places.of_grids(SEQUENCE, 9, (2, 3))
    assert places.grids.tolist() == [0, 1, 2, 2, 2, 2, 2, 2, 3]
    assert places.cells.tolist() == [[0, 0], [0, 0], [0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [0, 0]]
    assert places.in_storage_order().coordinates.tolist() == [[n, n] for n in range(9)]


def test_a_row_may_have_fewer_grids_than_another() -> None:
    fewer = torch.tensor([[2, 2], [0, 0], [0, 0], [0, 0]])
    places = Places.of_grids(torch.stack([SEQUENCE, fewer]), 9, (2, 3))
    assert places.grids.tolist() == [[0, 1, 2, 2, 2, 2, 2, 2, 3], [0] * 9]


def test_a_grid_that_is_cut_continues_and_text_follows_its_largest_coordinate() -> None:
    whole = Positions.grid(2, 3)
    begun = Positions.range(4)
    begun = Positions(begun.ids, 4, True, places=whole.places.take(slice(4)))
    continued = begun.continuation(4)
    assert continued.places.coordinates.tolist() == [[1, 1], [1, 2], [3, 3], [4, 4]]
    assert continued.places.cells.tolist() == [[1, 1], [1, 2], [0, 0], [0, 0]]
    assert continued.places.sizes.tolist() == [[2, 3], [2, 3], [1, 1], [1, 1]]
    assert continued.ids.tolist() == [4, 5, 6, 7]
    joined = begun.followed_by(continued)
    assert joined.places.grids.tolist() == [0, 0, 0, 0, 0, 0, 1, 2]
    assert joined.places.cells[:6].equal(whole.places.cells)


def test_a_continuation_in_pieces_is_that_of_the_whole() -> None:
    start = Positions.grid(2, 3)
    whole = start.followed_by(start.continuation(5))
    pieces = start
    for count in (2, 1, 2):
        pieces = pieces.followed_by(pieces.continuation(count))
    for name in ("cells", "sizes", "coordinates", "grids"):
        assert getattr(whole.places, name).equal(getattr(pieces.places, name)), name


def test_coordinates_that_are_cells_or_follow_them_are_below_a_known_bound() -> None:
    start = Positions.grid(2, 3)
    assert start.places.stops == start.behind(2).places.stops == (2, 3)
    later = start
    for count in (1, 4):
        later = later.followed_by(later.continuation(count))
    assert all(
        stop > largest for stop, largest in zip(later.places.stops, later.places.coordinates.amax(0), strict=True)
    )
    assert start.places.at(start.places.cells * 0.5).stops is None


def test_where_coordinates_are_others_than_cells_text_follows() -> None:
    places = Places.of_grids(SEQUENCE, 9, (2, 3)).in_storage_order()
    assert places.continuation(2).coordinates.tolist() == [[9, 9], [10, 10]]
    half = Positions.grid(2, 2).places
    assert half.at(half.cells / 2).continuation(1).coordinates.tolist() == [[1.5, 1.5]]


def test_registers_stand_nowhere_and_before_all_others() -> None:
    positions = Positions.grid(2, 2).behind(2)
    places = positions.places
    assert positions.ids.tolist() == [0, 1, 2, 3, 4, 5] and positions.stop == 6
    assert places.without_position.tolist() == [True, True, False, False, False, False]
    assert places.coordinates.tolist() == [[0, 0], [0, 0], [0, 0], [0, 1], [1, 0], [1, 1]]
    assert places.at(places.cells + 1.0).coordinates[:3].tolist() == [[0, 0], [0, 0], [1, 1]]


def test_rows_are_selected_with_their_places() -> None:
    positions = Positions.grids(torch.tensor([[[2, 3]], [[3, 2]]]), 6, (3, 3)).select(torch.tensor([1, 1, 0]))
    assert positions.places.sizes[:, 0].tolist() == [[3, 2], [3, 2], [2, 3]]


def test_places_may_not_get_lost_when_positions_are_joined() -> None:
    with pytest.raises(ValueError, match=r"^places must.*or for none"):
        Positions.grid(2, 2).followed_by(Positions.range(1, 4))
    with pytest.raises(ValueError, match=r"^places must.*width, got time"):
        Positions.grid(2, 2).followed_by(Positions.grid(2))


def test_coordinates_broadcast_over_heads_and_without_places_are_the_ids() -> None:
    assert Positions.range(3).coordinates_for_heads.tolist() == [[0], [1], [2]]
    assert Positions.grid(2, 2).coordinates_for_heads.shape == (4, 2)
    two = torch.tensor([[[2, 2]], [[1, 4]]])
    assert Positions.grids(two, 4, (2, 4)).coordinates_for_heads.shape == (2, 1, 4, 2)


def test_places_are_taken_in_any_order_and_rows_of_them_selected() -> None:
    places = Positions.grids(torch.tensor([[[2, 2]], [[1, 3]]]), 4, (2, 3)).places
    assert places is not None
    taken = places.take(torch.tensor([3, 0]))
    assert taken.cells.tolist() == [[[1, 1], [0, 0]], [[0, 2], [0, 0]]]
    assert places.take(slice(1, 2)).cells.tolist() == [[[0, 1]], [[0, 1]]]
    moved = places.at(places.cells, end=torch.tensor([[7], [9]])).select(torch.tensor([1]))
    assert moved.end.tolist() == [[9]] and moved.continuation(2).coordinates.tolist() == [[[9, 9], [10, 10]]]


def test_text_continues_from_the_end_that_moved_places_name() -> None:
    places = Positions.grid(2, 2).places
    assert places is not None
    moved = places.at(places.cells - 5, end=torch.tensor([3]), stop=4)
    later = moved.continuation(2)
    assert later.coordinates.tolist() == [[3, 3], [4, 4]]
    joined = moved.followed_by(later)
    assert joined.continuation(1).coordinates.tolist() == [[5, 5]] and joined.stop == 6
    assert moved.followed_by(Positions.grid(1, 3).places).end.tolist() == [3]


def test_the_length_of_an_axis_is_its_largest_size_or_that_of_the_sequence() -> None:
    grid = Positions.grid(2, 3)
    assert (Positions.range(7).lengths, grid.lengths) == ((7,), (2, 3))
    assert grid.followed_by(grid.continuation(4)).lengths == (7, 7)
    text = Positions.grids(SEQUENCE, 9, (2, 3))
    assert Positions(text.ids, 9, places=text.places.in_storage_order()).lengths == (9, 9)
